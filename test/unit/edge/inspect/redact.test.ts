import { describe, expect, test } from "bun:test";
import { isSecretName, redactBody, redactHeaders, redactTarget } from "../../../../src/edge/inspect/redact.ts";

const SECRET = "hunter2-4f9d";

describe("names of secrets", () => {
  test.each([
    ...[
      "accessToken",
      "X-Api-Key",
      "client_secret",
      "password",
      "Authorization",
      "apiKey",
      "x-csrf-token",
      "sessionId",
    ],
    ...["Cf-Access-Jwt-Assertion", "Cf-Access-Client-Secret", "aws_secret_access_key", "AUTH", "x".repeat(300)],
  ])("%s", (name) => {
    expect(isSecretName(name)).toBe(true);
  });

  test.each(["author", "name", "X-Request-Id", "Cf-Access-Client-Id", "Content-Type", "tokenizer", "passenger", "key"])(
    "not %s",
    (name) => {
      expect(isSecretName(name)).toBe(false);
    },
  );
});

test("header fields keep their names and what kind of secret they have", () => {
  const fields = [
    ...["Authorization", `Bearer ${SECRET}`],
    ...["Cookie", `a=${SECRET}; b=${SECRET}x`],
    ...["Set-Cookie", `sid=${SECRET}; Path=/; HttpOnly`],
    ...["X-Api-Key", SECRET],
    ...["Referer", `https://me:${SECRET}@app.example/x?token=${SECRET}&page=2`],
    ...["Accept", "text/html"],
  ];
  expect(redactHeaders(fields)).toEqual([
    ["Authorization", "Bearer REDACTED"],
    ["Cookie", "a=REDACTED; b=REDACTED"],
    ["Set-Cookie", "sid=REDACTED; Path=/; HttpOnly"],
    ["X-Api-Key", "REDACTED"],
    ["Referer", "https://REDACTED@app.example/x?token=REDACTED&page=2"],
    ["Accept", "text/html"],
  ]);
});

test("queries hide what stands for a secret, also when its name is encoded", () => {
  expect(redactTarget(`/cb?code=${SECRET}&page=1&access%5Ftoken=${SECRET}#id_token=${SECRET}`)).toBe(
    "/cb?code=REDACTED&page=1&access%5Ftoken=REDACTED#id_token=REDACTED",
  );
});

const BODIES: readonly (readonly [type: string, body: string])[] = [
  [
    "application/json",
    JSON.stringify({ user: "ann", password: SECRET, inner: [{ apiKey: SECRET }], tokens: [SECRET] }),
  ],
  ["application/json", JSON.stringify({ body: JSON.stringify({ user: "ann", password: SECRET }) })],
  ["application/json", `{"user":"ann","password":"${SECRET}`],
  ["application/json", `{"user":"ann","password":"${SECRET}","more":{"client_secret" : "${SECRET}"},"x":`],
  ["application/problem+json; charset=utf-8", JSON.stringify({ user: "ann", secret: { a: SECRET } })],
  ["application/x-www-form-urlencoded", `user=ann&password=${SECRET}&code=${SECRET}`],
  [
    "multipart/form-data; boundary=b",
    `--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nann\r\n--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n${SECRET}\r\n--b--\r\n`,
  ],
  ["text/plain", `user=ann Authorization: Bearer ${SECRET}`],
  ["text/html", `ann eyJhbGciOiJFUzI1NiJ9.${SECRET}.c2ln`],
];

test.each(BODIES)("a body of %s: %s", (type, body) => {
  const shown = redactBody(body, type);
  expect(shown).not.toContain(SECRET);
  expect(shown).toContain("REDACTED");
  expect(shown).toContain("ann");
});

test("a body without secrets stays as it is, byte for byte", () => {
  const body = '{ "a":1,\n"author":"ann", "code": 7 }';
  expect(redactBody(body, "application/json")).toBe(body);
});

test("hostile bodies cost no more than their length", () => {
  const began = performance.now();
  for (const part of ['"a":', '{"password":[', "name=", '"\\', "eyJaaaaaa.", 'name="password"\r\n\r\n', "a=b&"]) {
    for (const type of ["application/json", "multipart/form-data", "application/x-www-form-urlencoded"]) {
      redactBody(part.repeat(65_536 / part.length), type);
    }
  }
  expect(performance.now() - began).toBeLessThan(3_000);
});
