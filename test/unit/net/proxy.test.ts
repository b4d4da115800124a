import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createProxyHandshake, type ProxyStep } from "../../../src/net/proxy-handshake.ts";
import { isExempt, type ProxySettings, parseProxyUrl } from "../../../src/net/proxy-settings.ts";

const HTTP: ProxySettings = { kind: "http", host: "proxy", port: 3128, credentials: undefined };
const SOCKS: ProxySettings = { kind: "socks5", host: "proxy", port: 1080, credentials: undefined };
const WITH_PASSWORD = { credentials: { username: "ü", password: "p:w" } };

describe("proxy URLs", () => {
  test.each<[string, Partial<ProxySettings>]>([
    ["http://proxy:3128", HTTP],
    ["proxy:3128", HTTP],
    ["http://proxy:80/", { ...HTTP, port: 80 }],
    ["http://proxy", { ...HTTP, port: 8080 }],
    ["socks5://proxy", SOCKS],
    ["socks5h://[::1]:9", { kind: "socks5", host: "::1", port: 9 }],
    ["http://%C3%BC:p%3Aw@proxy:3128", { ...HTTP, ...WITH_PASSWORD }],
  ])("%s", (text, want) => {
    expect(parseProxyUrl(text)).toMatchObject({ ok: true, value: want });
  });

  test.each(["https://proxy:3128", "ftp://x", "http://", "http://user:secret@:1"])(
    "%s is refused without quoting it",
    (text) => {
      const parsed = parseProxyUrl(text);
      expect(parsed.ok).toBe(false);
      expect(JSON.stringify(parsed)).not.toContain("secret");
    },
  );
});

test.each<[string, string, boolean]>([
  ["edge.example", "", false],
  ["localhost", "", true],
  ["127.3.2.1", "", true],
  ["::1", "", true],
  ["app.localhost", "", true],
  ["edge.example", "*", true],
  ["edge.example", "example", true],
  ["edge.example", ".example", true],
  ["edge.example", "*.example", true],
  ["myexample", "example", false],
  ["Edge.Example", "EDGE.example", true],
  ["edge.example", "edge.example:7844", true],
  ["edge.example", "edge.example:443", false],
  ["10.1.2.3", "10.0.0.0/8", true],
  ["11.1.2.3", "10.0.0.0/8,other", false],
  ["10.1.2.3", "0.0.0.0/0", true],
  ["10.1.2.3", "10.0.0.0/33", false],
])("NO_PROXY: %s under %p is exempt: %p", (host, list, want) => {
  expect(isExempt(host, 7844, list)).toBe(want);
});

/** Plays what a proxy says and returns what was sent and how it ended. */
function converse(proxy: ProxySettings, says: string[], host = "edge.example"): { sent: string[]; last: ProxyStep } {
  const handshake = createProxyHandshake(proxy, host, 7844);
  const sent: string[] = [];
  let last = handshake.start();
  const note = (): void => {
    if (last.kind === "send") sent.push(Buffer.from(last.bytes).toString("latin1"));
  };
  note();
  for (const line of says) {
    last = handshake.receive(Buffer.from(line, "latin1"));
    note();
  }
  return { sent, last };
}

describe("HTTP CONNECT", () => {
  test("opens and hands over what came behind the head", () => {
    const { sent, last } = converse(HTTP, ["HTTP/1.1 200 OK\r\nX: y\r\n", "\r\nrest"]);
    expect(sent).toEqual(["CONNECT edge.example:7844 HTTP/1.1\r\nHost: edge.example:7844\r\n\r\n"]);
    expect(last).toEqual({ kind: "open", rest: new Uint8Array(Buffer.from("rest")) });
  });

  test("sends basic authentication and brackets IPv6", () => {
    const { sent } = converse({ ...HTTP, ...WITH_PASSWORD }, [], "2001:db8::1");
    expect(sent[0]).toContain("CONNECT [2001:db8::1]:7844 HTTP/1.1");
    expect(sent[0]).toContain(`Proxy-Authorization: Basic ${Buffer.from("ü:p:w").toString("base64")}\r\n`);
  });

  test.each([
    ["HTTP/1.1 407 Auth\r\n\r\n", "authentication"],
    ["HTTP/1.1 403 No\r\n\r\n", "status 403"],
    ["SSH-2.0-x\r\n\r\n", "no HTTP proxy"],
    ["x".repeat(20_000), "endless head"],
  ])("%p fails: %s", (answer, why) => {
    const { last } = converse(HTTP, [answer]);
    expect(last.kind === "failed" && last.error.message).toContain(why);
  });
});

describe("SOCKS5", () => {
  const NAME = "\u0005\u0001\u0000\u0003\u000cedge.example\u001e\u00a4";

  test("without authentication", () => {
    const { sent, last } = converse(SOCKS, ["\x05\x00", "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50rest"]);
    expect(sent).toEqual(["\x05\x01\x00", NAME]);
    expect(last).toEqual({ kind: "open", rest: new Uint8Array(Buffer.from("rest")) });
  });

  test("with user and password, answers in single bytes", () => {
    const says = [..."\x05\x02", ..."\x01\x00", ..."\x05\x00\x00\x03\x01a\x00\x50"];
    const { sent, last } = converse({ ...SOCKS, ...WITH_PASSWORD }, says);
    expect(sent).toEqual(["\x05\x02\x00\x02", `\x01\x02${Buffer.from("ü").toString("latin1")}\x03p:w`, NAME]);
    expect(last.kind).toBe("open");
  });

  test.each([
    [["\x04"], "no SOCKS5 proxy"],
    [["\x05\xff"], "authentication"],
    [["\x05\x02"], "authentication"],
    [["\x05\x00", "\x05\x05"], "refused by the target"],
    [["\x05\x00", "\x05\x63"], "code 99"],
    [["\x05\x00", "\x05\x00\x00\x07\x00"], "no SOCKS5 proxy"],
  ])("%p fails: %s", (says, why) => {
    const { last } = converse(SOCKS, says);
    expect(last.kind === "failed" && last.error.message).toContain(why);
  });
});

test("whatever a proxy says, the handshake does not throw", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(HTTP, SOCKS, { ...SOCKS, ...WITH_PASSWORD }),
      fc.array(fc.uint8Array({ maxLength: 40 })),
      (proxy, says) => {
        const handshake = createProxyHandshake(proxy, "edge.example", 7844);
        let step = handshake.start();
        for (const bytes of says) {
          if (step.kind === "failed" || step.kind === "open") return;
          step = handshake.receive(bytes);
        }
      },
    ),
    { numRuns: 500 },
  );
});
