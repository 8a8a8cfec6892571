//! What keeps data.

use crate::table::{Ask, NOTHING, Need, Service};

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
