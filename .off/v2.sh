mkdir -p /tmp/v; cd /tmp/v; tar xf $repo/.off/bundle.tar; mkdir s; mount -t tmpfs tmpfs s
G=$(ls $repo/target/dist/gabion); C=$(ls $repo/target/bench/sid/crun-sid)
cat > t.py <<'P' 
P
for r in $G $C $G $C; do n=$(basename $r)
 for i in 1 2; do $r --root s/$n create --bundle bundle v-$n </dev/null >/dev/null; $r --root s/$n delete --force v-$n; done
 u=0; s=0; iu=0; is=0
 for i in 1 2 3 4 5 6; do
  TIMEFORMAT="%U %S"; rm -f pid
  x=$( { time $r --root s/$n create --bundle bundle --pid-file pid v-$n </dev/null >/dev/null 2>&1; } 2>&1 )
  p=$(cat pid); y=$(cut -d' ' -f14,15 /proc/$p/stat); z=$(cat /proc/$p/schedstat)
  echo "$n cmd(user sys): $x  init ticks: $y schedstat $z faults $(cut -d' ' -f10 /proc/$p/stat)"
  $r --root s/$n delete --force v-$n
 done
done
