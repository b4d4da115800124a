import { describe, expect, test } from "bun:test";
import { listsToken, stripHopByHop } from "../../../../src/wire/h1/hop-by-hop.ts";

describe("stripHopByHop", () => {
  test.each<{ name: string; from: string[]; to: string[] }>([
    { name: "nothing to do", from: ["Host", "a", "X-A", "1", "x-a", "2"], to: ["Host", "a", "X-A", "1", "x-a", "2"] },
    {
      name: "the fixed fields, in any case",
      from: [
        ...["Connection", "keep-alive", "KEEP-ALIVE", "timeout=5", "Proxy-Connection", "close"],
        ...["proxy-authenticate", "Basic", "Proxy-Authorization", "Basic x"],
        ...["Transfer-Encoding", "chunked", "upgrade", "h2c", "X", "1"],
      ],
      to: ["X", "1"],
    },
    { name: "TE without trailers", from: ["TE", "gzip"], to: [] },
    { name: "TE with trailers", from: ["te", "gzip;q=0.5, Trailers;q=1", "Connection", "TE"], to: ["te", "trailers"] },
    {
      name: "Trailer stays",
      from: ["Trailer", "Grpc-Status", "Connection", "trailer"],
      to: ["Trailer", "Grpc-Status"],
    },
    {
      name: "fields that Connection lists",
      from: [
        "X-Hop",
        "1",
        "Connection",
        "close, x-hop",
        "x-HOP",
        "2",
        "X-Other",
        "3",
        "HTTP2-Settings",
        "a",
        "connection",
        "HTTP2-Settings,",
      ],
      to: ["X-Other", "3"],
    },
    {
      name: "end-to-end fields that Connection lists",
      from: [
        "Connection",
        "host, Content-Length, Cookie, Authorization, Cf-Connecting-Ip, X-Forwarded-For, Cf-Access-Jwt-Assertion, X-Real-Ip",
        ...["Host", "a", "Content-Length", "3", "Cookie", "c", "Authorization", "d", "CF-Connecting-IP", "1.2.3.4"],
        ...["X-Forwarded-For", "1.2.3.4", "Cf-Access-Jwt-Assertion", "e", "X-Real-IP", "f"],
      ],
      to: [
        ...["Host", "a", "Content-Length", "3", "Cookie", "c", "Authorization", "d", "CF-Connecting-IP", "1.2.3.4"],
        ...["X-Forwarded-For", "1.2.3.4", "Cf-Access-Jwt-Assertion", "e", "X-Real-IP", "f"],
      ],
    },
  ])("$name", ({ from, to }) => {
    expect(stripHopByHop(from)).toEqual(to);
  });
});

test.each([
  { list: "trailers", token: "trailers", want: true },
  { list: "gzip, TRAILERS", token: "trailers", want: true },
  { list: "trailers;q=0.1", token: "trailers", want: true },
  { list: "xtrailers, trailers2", token: "trailers", want: false },
  { list: "", token: "trailers", want: false },
])("listsToken($list, $token) is $want", ({ list, token, want }) => {
  expect(listsToken(list, token)).toBe(want);
});
