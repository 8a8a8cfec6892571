// Keeps what is put in a file below the directory for temporary files, and gives it back.
const fs = require("fs"), http = require("http"), os = require("os"), path = require("path");

const file = path.join(os.tmpdir(), "note");
http.createServer((request, response) => {
    if (request.method === "PUT") {
        request.pipe(fs.createWriteStream(file)).on("finish", () => response.end("kept\n"));
    } else {
        fs.createReadStream(file).on("error", (error) => response.writeHead(404).end(error.code)).pipe(response);
    }
}).listen(8080);
