cd $repo; G=$(ls target/dist/gabion); C=$(ls target/bench/sid/crun-sid); hack/bench --rounds 6 --case 0 $G $C
