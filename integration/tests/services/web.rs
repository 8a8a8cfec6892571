//! Web servers and proxies.

use crate::table::{Ask, NOTHING, Need, Restricted, Service};

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
