import { expect, test } from "bun:test";
import { readApiUrl } from "../../../src/cli/api-url.ts";

test.each([
  ["https://edge.test:7845", "https://edge.test:7845/client/v4"],
  ["https://edge.test:7845/", "https://edge.test:7845/client/v4"],
  ["HTTP://127.0.0.1:7845", "http://127.0.0.1:7845/client/v4"],
  ["https://edge.test/client/v4", "https://edge.test/client/v4"],
  ["https://edge.test/client/v4//", "https://edge.test/client/v4"],
  ["https://proxy.test/culvert/client/v4", "https://proxy.test/culvert/client/v4"],
])("%s leads to %s", (text, url) => {
  expect(readApiUrl(text)).toBe(url);
});

test.each([
  "",
  "edge.test:7845",
  "ftp://edge.test",
  "https://",
  "https:edge.test",
  "https://a b/",
  "https://u:p@edge.test",
  "https://edge.test/?a=1",
])("%p is none", (text) => {
  expect(readApiUrl(text)).toBeUndefined();
});
