/** An origin for WebSockets that sends every message back. Prints its port. */
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, self) {
    if (self.upgrade(request)) return undefined;
    return new Response("WebSockets only", { status: 426 });
  },
  websocket: {
    // Seconds; 0 = for ever.
    idleTimeout: 0,
    sendPings: false,
    message(socket, message) {
      socket.send(message);
    },
  },
});

console.log(server.port);
