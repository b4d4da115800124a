import { describe, expect, test } from "bun:test";
import { parseHeader, requestFields } from "../../../src/access/header-fields.ts";

describe("a header of the user's", () => {
  test.each([
    ["X-Team: blue", ["X-Team", "blue"]],
    ["X-List:a, b:c", ["X-List", "a, b:c"]],
    ["X-Empty:", ["X-Empty", ""]],
  ])("%s", (text, value) => {
    expect(parseHeader(text)).toEqual({ ok: true, value: value as [string, string] });
  });

  test.each(["no-colon", ":value", "Host: other", "upgrade: h2c", "Sec-WebSocket-Key: x", "a b: c", "X: a\nY: b"])(
    "%p is refused",
    (text) => {
      expect(parseHeader(text).ok).toBe(false);
    },
  );

  test("a refusal never shows the value", () => {
    const parsed = parseHeader("Authorization: s3cret\u0000");
    expect(parsed.ok).toBe(false);
    expect(JSON.stringify(parsed)).not.toContain("s3cret");
  });
});

test("fields of a request: the user's stand instead of ours of the same name", () => {
  const fields = {
    headers: ["user-agent", "mine", "X-Team", "blue"],
    destination: "10.0.0.5:22",
    serviceToken: { id: "the-id", secret: "the-secret" },
  };
  expect(requestFields(fields, "culvert/1", "the-token")).toEqual([
    ...["Cf-Access-Token", "the-token"],
    ...["Cf-Access-Client-Id", "the-id"],
    ...["Cf-Access-Client-Secret", "the-secret"],
    ...["Cf-Access-Jump-Destination", "10.0.0.5:22"],
    ...["user-agent", "mine", "X-Team", "blue"],
  ]);
  expect(
    requestFields({ headers: [], destination: undefined, serviceToken: undefined }, "culvert/1", undefined),
  ).toEqual(["User-Agent", "culvert/1"]);
});
