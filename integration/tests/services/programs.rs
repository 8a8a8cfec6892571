//! Programs in Python, JavaScript and Java.

use crate::table::{Ask, NOTHING, Need, Restricted, Service};

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
    restricted: Restricted::Jit("Fatal javascript OOM"),
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
        restricted: Restricted::Jit("Failed to mark memory page as executable"),
        ..NOTHING
    },
];
