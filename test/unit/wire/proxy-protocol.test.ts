import { expect, test } from "bun:test";
import { encodeProxyHeader, type ProxyEndpoints } from "../../../src/wire/proxy-protocol.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";

function endpoints(sourceIp: string, destinationIp: string): ProxyEndpoints {
  return { sourceIp, sourcePort: 0, destinationIp, destinationPort: 443 };
}

test.each([
  {
    name: "IPv4",
    of: endpoints("203.0.113.9", "10.1.2.3"),
    v1: "PROXY TCP4 203.0.113.9 10.1.2.3 0 443\r\n",
    v2: "2111000ccb0071090a010203000001bb",
  },
  {
    name: "IPv6",
    of: endpoints("2001:db8::1", "::1"),
    v1: "PROXY TCP6 2001:db8::1 ::1 0 443\r\n",
    v2: `21210024${"20010db8000000000000000000000001"}${"00000000000000000000000000000001"}000001bb`,
  },
  {
    name: "a visitor of the other family",
    of: endpoints("2001:db8::1", "10.1.2.3"),
    v1: "PROXY TCP6 2001:db8::1 ::ffff:10.1.2.3 0 443\r\n",
    v2: `21210024${"20010db8000000000000000000000001"}${"00000000000000000000ffff0a010203"}000001bb`,
  },
  {
    name: "a unix socket",
    of: endpoints("203.0.113.9", ""),
    v1: "PROXY TCP4 203.0.113.9 0.0.0.0 0 443\r\n",
    v2: "2111000ccb00710900000000000001bb",
  },
  { name: "no visitor", of: undefined, v1: "PROXY UNKNOWN\r\n", v2: "20000000" },
  {
    name: "a visitor whose address is none",
    of: endpoints("1.2.3.4\r\nPROXY", "10.1.2.3"),
    v1: "PROXY UNKNOWN\r\n",
    v2: "20000000",
  },
])("$name", ({ of, v1, v2 }) => {
  expect(new TextDecoder().decode(encodeProxyHeader("v1", of))).toBe(v1);
  expect(Buffer.from(encodeProxyHeader("v2", of)).toString("hex")).toBe(SIGNATURE + v2);
});
