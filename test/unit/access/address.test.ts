import { describe, expect, test } from "bun:test";
import { originOf, parseAppAddress, parseConnectTo, parseListenAddress } from "../../../src/access/address.ts";

describe("address of an application", () => {
  test.each([
    ["ssh.example.com", true, "ssh.example.com", 443, "ssh.example.com", "/"],
    ["ssh.example.com:8443", true, "ssh.example.com", 8443, "ssh.example.com:8443", "/"],
    ["https://ssh.example.com/a?b=c", true, "ssh.example.com", 443, "ssh.example.com", "/a?b=c"],
    ["wss://ssh.example.com", true, "ssh.example.com", 443, "ssh.example.com", "/"],
    ["http://ssh.example.com", false, "ssh.example.com", 80, "ssh.example.com", "/"],
    ["ws://localhost:8080", false, "localhost", 8080, "localhost:8080", "/"],
    ["HTTPS://SSH.Example.COM:443", true, "ssh.example.com", 443, "ssh.example.com", "/"],
    ["bücher.example", true, "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/"],
    ["::1", true, "::1", 443, "[::1]", "/"],
    ["http://[::1]:80", false, "::1", 80, "[::1]", "/"],
  ])("%s", (text, secure, host, port, authority, target) => {
    expect(parseAppAddress(text)).toEqual({ ok: true, value: { secure, host, port, authority, target } });
  });

  test.each(["", "ftp://a.example", "https://", "https://user:pass@a.example", "a b", "https://a.example:99999"])(
    "%p is refused",
    (text) => {
      expect(parseAppAddress(text).ok).toBe(false);
    },
  );

  test("as a URL", () => {
    const parsed = parseAppAddress("ws://localhost:8080/x");
    expect(parsed.ok && originOf(parsed.value)).toBe("http://localhost:8080");
  });
});

describe("where to dial instead", () => {
  test.each([
    ["127.0.0.1", "127.0.0.1", undefined, undefined],
    ["127.0.0.1:8443", "127.0.0.1", 8443, undefined],
    ["[::1]:8443", "::1", 8443, undefined],
    ["[::1]", "::1", undefined, undefined],
    ["sni.example:443:127.0.0.1", "127.0.0.1", 443, "sni.example"],
    ["sni.example:443:[::1]", "::1", 443, "sni.example"],
  ])("%s", (text, host, port, serverName) => {
    expect(parseConnectTo(text)).toEqual({ ok: true, value: { host, port, serverName } });
  });

  test.each(["", "a:b", "a:1:b:2", "a:0", "a:70000", "::1:80"])("%p is refused", (text) => {
    expect(parseConnectTo(text).ok).toBe(false);
  });
});

describe("where to listen", () => {
  test.each([
    ["127.0.0.1:5432", "127.0.0.1", 5432],
    ["localhost:0", "localhost", 0],
    [":5432", "127.0.0.1", 5432],
    ["tcp://0.0.0.0:22/", "0.0.0.0", 22],
    ["[::1]:22", "::1", 22],
  ])("%s", (text, host, port) => {
    expect(parseListenAddress(text)).toEqual({ ok: true, value: { host, port } });
  });

  test.each(["", "localhost", "localhost:x", "localhost:70000", "::1:22"])("%p is refused", (text) => {
    expect(parseListenAddress(text).ok).toBe(false);
  });
});
