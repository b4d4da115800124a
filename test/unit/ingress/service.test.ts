import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatService, parseService } from "../../../src/ingress/service.ts";

test.each([
  { text: "http://localhost", want: { kind: "http", host: "localhost", port: 80 } },
  { text: "http://localhost:8080", want: { kind: "http", host: "localhost", port: 8080 } },
  { text: "HTTP://localhost:8080", want: { kind: "http", host: "localhost", port: 8080 } },
  { text: "http://localhost:", want: { kind: "http", host: "localhost", port: 80 } },
  { text: "https://10.0.0.1", want: { kind: "https", host: "10.0.0.1", port: 443 } },
  { text: "https://[::1]:8443", want: { kind: "https", host: "::1", port: 8443 } },
  { text: "ws://localhost:1", want: { kind: "http", host: "localhost", port: 1 } },
  { text: "wss://localhost", want: { kind: "https", host: "localhost", port: 443 } },
  { text: "http://user:pass@localhost:81", want: { kind: "http", host: "localhost", port: 81 } },
  { text: "http://localhost?x=1", want: { kind: "http", host: "localhost", port: 80 } },
  { text: "unix:/run/app.sock", want: { kind: "unix", path: "/run/app.sock" } },
  { text: "unix:app.sock", want: { kind: "unix", path: "app.sock" } },
  { text: "unix+tls:/run/app.sock", want: { kind: "unix+tls", path: "/run/app.sock" } },
  { text: "http_status:404", want: { kind: "http_status", status: 404 } },
  { text: "http_status:100", want: { kind: "http_status", status: 100 } },
  { text: "http_status:999", want: { kind: "http_status", status: 999 } },
  { text: "hello_world", want: { kind: "hello_world" } },
  { text: "hello-world", want: { kind: "hello_world" } },
  { text: "bastion", want: { kind: "bastion" } },
  { text: "socks-proxy", want: { kind: "socks-proxy" } },
  { text: "tcp://db:5432", want: { kind: "tcp", scheme: "tcp", host: "db", port: 5432 } },
  { text: "tcp://db", want: { kind: "tcp", scheme: "tcp", host: "db", port: 7864 } },
  { text: "ssh://host", want: { kind: "tcp", scheme: "ssh", host: "host", port: 22 } },
  { text: "rdp://host", want: { kind: "tcp", scheme: "rdp", host: "host", port: 3389 } },
  { text: "smb://host", want: { kind: "tcp", scheme: "smb", host: "host", port: 445 } },
  { text: "mysql://host:3306", want: { kind: "tcp", scheme: "mysql", host: "host", port: 3306 } },
  // A scheme that is a property of every object.
  { text: "constructor://host:1", want: { kind: "tcp", scheme: "constructor", host: "host", port: 1 } },
  { text: "h2c://host:50051", want: { kind: "h2c", host: "host", port: 50051 } },
  { text: "H2C://[::1]", want: { kind: "h2c", host: "::1", port: 80 } },
])("$text", ({ text, want }) => {
  expect(parseService(text)).toEqual(want as never);
});

describe("a service is refused", () => {
  test.each([
    { text: "", says: "not a URL" },
    { text: "localhost:8080", says: "not a URL" },
    { text: "localhost", says: "not a URL" },
    { text: "http://", says: "not a URL" },
    { text: "http:///x", says: "not a URL" },
    { text: "http://localhost/", says: "may not have a path" },
    { text: "http://localhost:8080/app", says: "may not have a path" },
    { text: "tcp://db/x", says: "may not have a path" },
    { text: "mysql://host", says: "needs a port" },
    { text: "http://localhost:0", says: "port" },
    { text: "http://localhost:00", says: "port" },
    { text: "http://localhost:65536", says: "port" },
    { text: "http://localhost:http", says: "port" },
    { text: "http://a b", says: "port" },
    { text: "http_status:", says: "100 to 999" },
    { text: "http_status:ok", says: "100 to 999" },
    { text: "http_status:99", says: "100 to 999" },
    { text: "http_status:1000", says: "100 to 999" },
    { text: "http_status:4e2", says: "100 to 999" },
    { text: "unix:", says: "path of a socket" },
    { text: "unix+tls:", says: "path of a socket" },
  ])('"$text": $says', ({ text, says }) => {
    const service = parseService(text);
    expect(service).toHaveProperty("error");
    if ("error" in service) {
      expect(service.error).toContain(says);
      expect(service.error).toContain(`"${text}"`);
    }
  });
});

test("what a service is written as means the same service", () => {
  const host = fc.constantFrom("localhost", "10.0.0.1", "[::1]", "a.example");
  const scheme = fc.constantFrom("http", "https", "ws", "wss", "h2c", "tcp", "ssh", "ftp");
  fc.assert(
    fc.property(scheme, host, fc.integer({ min: 1, max: 65_535 }), (name, authority, port) => {
      const service = parseService(`${name}://${authority}:${port}`);
      if ("error" in service) throw new Error(service.error);
      expect(parseService(formatService(service))).toEqual(service);
    }),
  );
});

test("no text makes the parser throw", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void parseService(text)));
  fc.assert(fc.property(fc.string(), (text) => void parseService(`http://${text}`)));
});
