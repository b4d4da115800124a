/**
 * The cheapest origin there can be, so that it is not what is measured: `/` answers eleven bytes, `/page/…` 8 KiB with the
 * fields of an ordinary page, `/bulk/N` answers N bytes, a POST with Content-Length is read and dropped. Prints its port.
 */
const HELLO = Buffer.from("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world");
const PAGE_FIELDS = [
  "Content-Type: text/html; charset=utf-8",
  "Cache-Control: private, max-age=60",
  'ETag: "5d8c72a5edda8d6a"',
  "Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT",
  "Vary: Accept-Encoding, Cookie",
  "X-Content-Type-Options: nosniff",
  "Server: bench",
];
const PAGE_BODY = `${"a".repeat(8 * 1024 - 11)}hello world`;
const PAGE = Buffer.from(
  `HTTP/1.1 200 OK\r\n${PAGE_FIELDS.join("\r\n")}\r\nContent-Length: ${PAGE_BODY.length}\r\n\r\n${PAGE_BODY}`,
);
const TAKEN = Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
const BLOCK = Buffer.alloc(256 * 1024, "a");

interface State {
  /** Request body bytes still to come. */
  receive: number;
  /** Answer body bytes still to go. */
  send: number;
}

const server = Bun.listen<State>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.data = { receive: 0, send: 0 };
    },
    data(socket, chunk) {
      let at = 0;
      while (at < chunk.length) {
        if (socket.data.receive > 0) {
          const taken = Math.min(socket.data.receive, chunk.length - at);
          socket.data.receive -= taken;
          at += taken;
          if (socket.data.receive === 0) socket.write(TAKEN);
          continue;
        }
        const end = chunk.indexOf("\r\n\r\n", at);
        if (end < 0) throw new Error("a request head came in two pieces");
        const head = chunk.toString("latin1", at, end);
        at = end + 4;
        if (head.startsWith("GET /bulk/")) answerBulk(socket, Number(/^GET \/bulk\/(\d+)/.exec(head)?.[1]));
        else if (head.startsWith("POST")) socket.data.receive = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
        else socket.write(head.startsWith("GET /page/") ? PAGE : HELLO);
      }
    },
    drain: pump,
    close() {},
    error(_socket, error) {
      console.error(error);
    },
  },
});

function answerBulk(socket: Bun.Socket<State>, bytes: number): void {
  socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`);
  socket.data.send = bytes;
  pump(socket);
}

function pump(socket: Bun.Socket<State>): void {
  while (socket.data.send > 0) {
    const block = socket.data.send < BLOCK.length ? BLOCK.subarray(0, socket.data.send) : BLOCK;
    const sent = Math.max(0, socket.write(block));
    socket.data.send -= sent;
    if (sent < block.length) return;
  }
}

console.log(server.port);
