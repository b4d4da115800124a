import { expect, test } from "bun:test";
import { isLoopbackHost, isLoopbackIp, isLoopbackListen } from "../../../src/net/loopback.ts";

const IPS = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::FFFF:127.0.0.1"];
const NAMES = ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.localhost."];
const OTHERS = [
  ...["127.evil.example", "127.0.0.1.evil.example", "127.", "127.1", "127.0.0.256", "128.0.0.1", "0.0.0.0", ""],
  ...["::", "::11", "fe80::1", "::ffff:::1", "::ffff:10.0.0.1", "::ffff:127.evil.example", "[::1", "[::]"],
  ...["localhost.example", "notlocalhost", ".localhost", "localhost..", "a.localhost.example"],
];

test("a host that is this machine, and none that only looks like it", () => {
  const hosts = [...IPS, ...NAMES, "[::1]", "[::ffff:127.0.0.1]"];
  expect(hosts.filter((host) => !isLoopbackHost(host))).toEqual([]);
  expect(OTHERS.filter(isLoopbackHost)).toEqual([]);
});

test("an address that is this machine; names are none", () => {
  expect(IPS.filter((ip) => !isLoopbackIp(ip))).toEqual([]);
  expect([...OTHERS, ...NAMES, "[::1]"].filter(isLoopbackIp)).toEqual([]);
});

test("a host to listen on: short addresses as resolvers take them, and no name that the resolver may lead elsewhere", () => {
  const short = ["127.1", "127.0.1", "0x7f.1", "0177.0.0.1", "2130706433", "0x7f000001"];
  const hosts = [...IPS, ...short, "localhost", "LocalHost", "localhost.", "[::1]"];
  expect(hosts.filter((host) => !isLoopbackListen(host))).toEqual([]);
  const others = OTHERS.filter((host) => host !== "127.1");
  const more = [
    "a.localhost",
    "a.b.localhost.",
    "128.1",
    "10.1",
    "1",
    "127.08",
    "127.1.",
    "127.1.evil.example",
    "127.256.1",
  ];
  expect([...others, ...more].filter(isLoopbackListen)).toEqual([]);
});
