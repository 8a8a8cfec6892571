//! The services: how each is run, what it is asked, and what it says where one of the things that it needs is missing.
//! docs/RECIPES.md has these rows, word for word.

/// One thing beyond the default holes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// An entry of the annotation `dev.gabion.holes`.
    Hole(&'static str),
    /// A named volume: `NAME:PATH`.
    Volume(&'static str),
    /// Words for podman.
    Option(&'static [&'static str]),
    /// Lines of the policy.
    Policy(&'static str),
}

/// A question, and a part of the right answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// The output of a command beside the service.
    Run(&'static [&'static str], &'static str),
    /// What the program itself prints.
    Prints(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Restricted {
    Reached,
    /// By this code: what the service needs, or is, may not be had there.
    Refused(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) options: &'static [&'static str],
    /// Each with what is said where it is missing.
    pub(crate) needs: &'static [(Need, &'static str)],
    pub(crate) command: &'static [&'static str],
    /// In words.
    pub(crate) asked: &'static str,
    pub(crate) asks: &'static [Ask],
    /// Asked of another container with the same volume, after the first has ended.
    pub(crate) kept: &'static [Ask],
    pub(crate) restricted: Restricted,
    /// Where it writes what it does not print.
    pub(crate) log: Option<&'static str>,
}

const NOTHING: Service = Service {
    name: "",
    package: "",
    options: &[],
    needs: &[],
    command: &[],
    asked: "",
    asks: &[],
    kept: &[],
    restricted: Restricted::Reached,
    log: None,
};

/// Ports below 1024 for a user without capabilities.
const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start=0";

const NGINX_AS_ROOT: Service = Service {
    name: "nginx",
    package: "nginx",
    needs: &[
        (
            Need::Hole("/var/lib/nginx"),
            "mkdir() \"/var/lib/nginx/body\" failed (30: Read-only file system)",
        ),
        (
            Need::Hole("/var/log/nginx"),
            "open() \"/var/log/nginx/error.log\" failed (30: Read-only file system)",
        ),
    ],
    command: &["nginx", "-g", "daemon off;"],
    asked: "its page, over HTTP",
    asks: &[Ask::Run(
        &["curl", "-s", "http://127.0.0.1/index.nginx-debian.html"],
        "Welcome to nginx",
    )],
    restricted: Restricted::Refused("user.root"),
    ..NOTHING
};

pub(crate) const NGINX: &[Service] = &[
    NGINX_AS_ROOT,
    Service {
        name: "nginx, not root",
        package: "nginx",
        options: &["-u", "www-data"],
        needs: &[
            (
                Need::Option(&["--sysctl", LOW_PORTS]),
                "bind() to 0.0.0.0:80 failed (13: Permission denied)",
            ),
            (
                Need::Hole("/var/lib/nginx:mode=1777"),
                "mkdir() \"/var/lib/nginx/body\" failed (30: Read-only file system)",
            ),
            (
                Need::Hole("/var/log/nginx"),
                "open() \"/var/log/nginx/error.log\" failed (30: Read-only file system)",
            ),
            (
                Need::Hole("/run:mode=1777"),
                "open() \"/run/nginx.pid\" failed (13: Permission denied)",
            ),
        ],
        ..NGINX_AS_ROOT.as_user()
    },
];

const APACHE_AS_ROOT: Service = Service {
    name: "Apache with PHP",
    package: "libapache2-mod-php",
    needs: &[
        (
            Need::Hole("/var/log/apache2"),
            "(30)Read-only file system: AH00091: apache2: could not open error log file /var/log/apache2/error.log.",
        ),
        (
            Need::Hole("/var/lib/php/sessions"),
            "O_RDWR) failed: Read-only file system (30) in /var/www/html/count.php",
        ),
    ],
    command: &["apache2ctl", "-D", "FOREGROUND"],
    asked: "a PHP page that counts visits in a session",
    asks: &[
        Ask::Run(
            &[
                "curl",
                "-s",
                "-b",
                "/tmp/jar",
                "-c",
                "/tmp/jar",
                "http://127.0.0.1/count.php",
            ],
            "visit 1",
        ),
        Ask::Run(
            &[
                "curl",
                "-s",
                "-b",
                "/tmp/jar",
                "-c",
                "/tmp/jar",
                "http://127.0.0.1/count.php",
            ],
            "visit 2",
        ),
    ],
    restricted: Restricted::Refused("user.root"),
    log: Some("/var/log/apache2/error.log"),
    ..NOTHING
};

pub(crate) const APACHE: &[Service] = &[
    APACHE_AS_ROOT,
    Service {
        name: "Apache, not root",
        package: "libapache2-mod-php",
        options: &["-u", "www-data"],
        needs: &[
            (
                Need::Option(&["--sysctl", LOW_PORTS]),
                "(13)Permission denied: AH00072: make_sock: could not bind to address",
            ),
            (
                Need::Option(&["--tmpfs", "/var/log/apache2:mode=1777,notmpcopyup"]),
                "AH00091: apache2: could not open error log file /var/log/apache2/error.log.",
            ),
            (
                Need::Hole("/var/lib/php/sessions"),
                "O_RDWR) failed: Read-only file system (30) in /var/www/html/count.php",
            ),
            (
                Need::Hole("/run:mode=1777"),
                "mkdir: cannot create directory '/var/run/apache2': Permission denied",
            ),
        ],
        ..APACHE_AS_ROOT.as_user()
    },
];

const REDIS_ASKS: &[Ask] = &[
    Ask::Run(&["redis-cli", "set", "key", "kept"], "OK"),
    Ask::Run(&["redis-cli", "save"], "OK"),
];

const REDIS_SAYS: &str =
    "Failed opening the temp RDB file temp-1.rdb (in server root dir /var/lib/redis) for saving: Read-only file system";

pub(crate) const REDIS: &[Service] = &[
    Service {
        name: "redis, to try",
        package: "redis-server",
        options: &["-u", "redis"],
        needs: &[(Need::Hole("/var/lib/redis"), REDIS_SAYS)],
        command: &["redis-server", "--dir", "/var/lib/redis"],
        asked: "set, save",
        asks: REDIS_ASKS,
        ..NOTHING
    },
    Service {
        name: "redis, to keep",
        package: "redis-server",
        options: &["-u", "redis"],
        needs: &[(Need::Volume("data:/var/lib/redis"), REDIS_SAYS)],
        command: &["redis-server", "--dir", "/var/lib/redis"],
        asked: "set, save; get after a restart",
        asks: REDIS_ASKS,
        kept: &[Ask::Run(&["redis-cli", "get", "key"], "kept")],
        ..NOTHING
    },
];

pub(crate) const MEMCACHED: &[Service] = &[Service {
    name: "memcached",
    package: "memcached",
    options: &["-u", "memcache"],
    command: &["memcached"],
    asked: "set, get; it needs nothing",
    asks: &[Ask::Run(
        &[
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/11211; printf 'set key 0 0 4\\r\\nkept\\r\\nget key\\r\\nquit\\r\\n' >&3; cat <&3",
        ],
        "VALUE key 0 4",
    )],
    ..NOTHING
}];

const MARIADB_ASKS: &[Ask] = &[
    Ask::Run(&["mariadb", "-e", "select 1"], "1"),
    Ask::Run(
        &[
            "mariadb",
            "-e",
            "create database d; create table d.t (x int); insert into d.t values (7); select 6 * x from d.t",
        ],
        "42",
    ),
];

const MARIADB_DATA: &str = "Can't create/write to file './ddl_recovery.log' (Errcode: 30 \"Read-only file system\")";

const MARIADB_SOCKET: (Need, &str) = (
    Need::Hole("/run/mysqld:mode=1777"),
    "Can't start server : Bind on unix socket: No such file or directory",
);

pub(crate) const MARIADB: &[Service] = &[
    Service {
        name: "MariaDB, to try",
        package: "mariadb-server",
        options: &["-u", "mysql"],
        needs: &[(Need::Hole("/var/lib/mysql:size=512m"), MARIADB_DATA), MARIADB_SOCKET],
        command: &["mariadbd"],
        asked: "create, insert, select",
        asks: MARIADB_ASKS,
        ..NOTHING
    },
    Service {
        name: "MariaDB, to keep",
        package: "mariadb-server",
        options: &["-u", "mysql"],
        needs: &[(Need::Volume("data:/var/lib/mysql"), MARIADB_DATA), MARIADB_SOCKET],
        command: &["mariadbd"],
        asked: "create, insert; select after a restart",
        asks: MARIADB_ASKS,
        kept: &[Ask::Run(&["mariadb", "-e", "select 6 * x from d.t"], "42")],
        ..NOTHING
    },
];

const POSTGRES: &[&str] = &[
    "/usr/lib/postgresql/15/bin/postgres",
    "-D",
    "/var/lib/postgresql/15/main",
    "-c",
    "config_file=/etc/postgresql/15/main/postgresql.conf",
];

const POSTGRES_ASKS: &[Ask] = &[
    Ask::Run(&["psql", "-c", "select 1"], "1 row"),
    Ask::Run(
        &[
            "psql",
            "-c",
            "create table t as select 7 as x",
            "-c",
            "select 6 * x from t",
        ],
        "42",
    ),
];

const POSTGRES_DATA: &str = "could not create lock file \"postmaster.pid\": Read-only file system";

const POSTGRES_SOCKET: (Need, &str) = (
    Need::Hole("/run/postgresql:mode=1777"),
    "could not create lock file \"/var/run/postgresql/.s.PGSQL.5432.lock\": No such file or directory",
);

pub(crate) const POSTGRESQL: &[Service] = &[
    Service {
        name: "PostgreSQL, to try",
        package: "postgresql",
        options: &["-u", "postgres"],
        needs: &[
            (Need::Hole("/var/lib/postgresql:size=512m"), POSTGRES_DATA),
            POSTGRES_SOCKET,
        ],
        command: POSTGRES,
        asked: "create, select",
        asks: POSTGRES_ASKS,
        ..NOTHING
    },
    Service {
        name: "PostgreSQL, to keep",
        package: "postgresql",
        options: &["-u", "postgres"],
        needs: &[
            (Need::Volume("data:/var/lib/postgresql"), POSTGRES_DATA),
            POSTGRES_SOCKET,
        ],
        command: POSTGRES,
        asked: "create; select after a restart",
        asks: POSTGRES_ASKS,
        kept: &[Ask::Run(&["psql", "-c", "select 6 * x from t"], "42")],
        ..NOTHING
    },
];

pub(crate) const PYTHON: &[Service] = &[Service {
    name: "gunicorn",
    package: "gunicorn",
    options: &["-u", "www-data"],
    command: &["gunicorn", "-b", ":8000", "wsgiref.simple_server:demo_app"],
    asked: "a page of a Python application; it needs nothing",
    asks: &[Ask::Run(&["curl", "-s", "http://127.0.0.1:8000/"], "Hello world!")],
    ..NOTHING
}];

pub(crate) const NODE: &[Service] = &[Service {
    name: "node",
    package: "nodejs",
    options: &["-u", "nobody"],
    command: &["node", "/srv/server.js"],
    asked: "a server that keeps what it is sent in a file of /tmp; it needs nothing",
    asks: &[
        Ask::Run(
            &["curl", "-s", "-X", "PUT", "-d", "a note", "http://127.0.0.1:8080/"],
            "kept",
        ),
        Ask::Run(&["curl", "-s", "http://127.0.0.1:8080/"], "a note"),
    ],
    ..NOTHING
}];

pub(crate) const JAVA: &[Service] = &[
    Service {
        name: "Java, unpacking a native library",
        package: "libjna-java",
        options: &["-u", "nobody"],
        needs: &[(
            Need::Option(&["--tmpfs", "/tmp:exec"]),
            "failed to map segment from shared object",
        )],
        command: &[
            "java",
            "-Djna.nosys=true",
            "-Djna.tmpdir=/tmp",
            "-cp",
            "/usr/share/java/jna.jar:/usr/share/java/jna-native.jar",
            "com.sun.jna.Native",
        ],
        asked: "JNA loads the library of its jar, by way of /tmp",
        asks: &[Ask::Prints("Native: ")],
        restricted: Restricted::Refused("mounts.exec"),
        ..NOTHING
    },
    Service {
        name: "Java, the library unpacked in the image",
        package: "libjna-java",
        options: &["-u", "nobody"],
        command: &["java", "-cp", "/usr/share/java/jna.jar:/opt/jna", "com.sun.jna.Native"],
        asked: "JNA loads the library from there; it needs nothing",
        asks: &[Ask::Prints("Native: ")],
        ..NOTHING
    },
];

pub(crate) const HAPROXY: &[Service] = &[
    Service {
        name: "HAProxy, which wants chroot",
        package: "haproxy",
        needs: &[
            (
                Need::Hole("/run/haproxy"),
                "cannot bind UNIX socket (No such file or directory) [/run/haproxy/admin.sock]",
            ),
            (
                Need::Policy("[capabilities]\nallow = [\"CAP_SYS_CHROOT\"]"),
                "Cannot chroot(/var/lib/haproxy)",
            ),
        ],
        command: &[
            "haproxy",
            "-db",
            "-f",
            "/etc/haproxy/haproxy.cfg",
            "-f",
            "/srv/front.cfg",
        ],
        asked: "an answer over HTTP, with the policy below",
        asks: &[Ask::Run(&["curl", "-s", "http://127.0.0.1:8080/"], "from haproxy")],
        restricted: Restricted::Refused("user.root"),
        ..NOTHING
    },
    Service {
        name: "HAProxy, a configuration without chroot",
        package: "haproxy",
        options: &["-u", "haproxy"],
        command: &["haproxy", "-db", "-f", "/srv/front.cfg"],
        asked: "an answer over HTTP; it needs nothing",
        asks: &[Ask::Run(&["curl", "-s", "http://127.0.0.1:8080/"], "from haproxy")],
        ..NOTHING
    },
];

impl Service {
    /// The same question to the same program, where it does not start as root.
    const fn as_user(self) -> Self {
        Self {
            restricted: Restricted::Reached,
            ..self
        }
    }

    /// The needs but for the one left out.
    pub(crate) fn needs_without(&self, missing: Option<usize>) -> impl Iterator<Item = Need> {
        let all = self.needs.iter().enumerate();
        all.filter(move |(at, _)| Some(*at) != missing)
            .map(|(_, (need, _))| *need)
    }

    /// podman's words between `run` and the image.
    pub(crate) fn podman_options(&self, missing: Option<usize>) -> Vec<String> {
        let mut words: Vec<String> = self.options.iter().map(|word| (*word).to_owned()).collect();
        let mut holes = Vec::new();
        for need in self.needs_without(missing) {
            match need {
                Need::Hole(entry) => holes.push(entry),
                Need::Volume(volume) => words.extend(["-v".to_owned(), volume.to_owned()]),
                Need::Option(option) => words.extend(option.iter().map(|word| (*word).to_owned())),
                Need::Policy(_) => {}
            }
        }
        if !holes.is_empty() {
            words.extend([
                "--annotation".to_owned(),
                format!("dev.gabion.holes={}", holes.join(" ")),
            ]);
        }
        words
    }
}
