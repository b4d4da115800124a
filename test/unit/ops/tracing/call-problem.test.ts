import { expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { callProblem } from "../../../../src/ops/tracing/call-problem.ts";

/** What is said of a call to whoever does this with a connection, once the request is there. */
async function problemWith(scheme: "http" | "https", act: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => act(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  try {
    return await fetch(`${scheme}://127.0.0.1:${port}/v1/traces`, { method: "POST", body: "x" }).then(
      ({ status }) => `status ${status}`,
      callProblem,
    );
  } finally {
    server.close();
  }
}

test.each([
  [
    "an SSH server",
    "http",
    "SSH-2.0-OpenSSH_9.6\r\nand more of that\r\n",
    "the answer is not HTTP (Malformed_HTTP_Response)",
  ],
  ["one that hangs up", "http", "", "the connection was closed without an answer (ECONNRESET)"],
  ["one without TLS", "https", "HTTP/1.1 400 Bad Request\r\n\r\n", "TLS handshake failed (EPROTO)"],
] as const)("a call to %s", async (_who, scheme, text, said) => {
  expect(await problemWith(scheme, (socket) => void socket.end(text))).toBe(said);
});

test.each([
  [
    Object.assign(new Error("self signed certificate"), { code: "DEPTH_ZERO_SELF_SIGNED_CERT" }),
    /^its certificate is not trusted \(DEPTH/,
  ],
  [Object.assign(new Error("Pass `verbose: true`"), { code: "SomethingNew" }), /^the call failed \(SomethingNew\)$/],
  [new TypeError("fetch failed", { cause: { code: "ENOTFOUND" } }), /^host name not found \(ENOTFOUND\)$/],
  [Object.assign(new Error("x"), { code: "\u001b[2J" }), /^the call failed$/],
  [new TypeError("fetch failed"), /^the call failed$/],
  ["nothing at all", /^the call failed$/],
])("failure %#: our own words", (thrown, said) => {
  expect(callProblem(thrown)).toMatch(said);
});
