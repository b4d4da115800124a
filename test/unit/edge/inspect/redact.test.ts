import { describe, expect, test } from "bun:test";
import { isSecretName } from "../../../../src/core/secret-names.ts";
import { redactBody, redactHeaders, redactPairs, redactTarget } from "../../../../src/edge/inspect/redact.ts";

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

test("cookies without a name are hidden, and passwords with an @ before a host", () => {
  expect(redactHeaders(["Cookie", `${SECRET}; ${SECRET}; a=1`, "Set-Cookie", `${SECRET}; Path=/`])).toEqual([
    ["Cookie", "REDACTED; REDACTED; a=REDACTED"],
    ["Set-Cookie", "REDACTED; Path=/"],
  ]);
  expect(redactTarget(`https://me:p@${SECRET}@app.example/`)).toBe("https://REDACTED@app.example/");
});

test("a query within a query hides its secrets, and a secret is hidden to its end", () => {
  expect(redactTarget(`/x?next=/login?token=${SECRET}&page=2`)).toBe("/x?next=/login?token=REDACTED&page=2");
  expect(redactTarget(`/x?token=a?b=${SECRET}&??key=${SECRET}`)).toBe("/x?token=REDACTED&??key=REDACTED");
  expect(redactTarget("/x?a=1&b?c#d")).toBe("/x?a=1&b?c#d");
  expect(redactPairs(`next=%2Flogin%3Ftoken%3D${SECRET}&a=b`)).toEqual([
    ["next", "/login?token=REDACTED"],
    ["a", "b"],
  ]);
});

test("tokens are hidden wherever they stand, JWEs to their last part", () => {
  const head = "eyJhbGciOiJkaXIifQ";
  expect(redactBody(`a session-${head}.${SECRET}.c2ln b`, "")).toBe("a session-REDACTED b");
  expect(redactBody(`a ${head}..${SECRET}.${SECRET}.${SECRET}, b`, "")).toBe("a REDACTED, b");
  expect(redactBody(`www.some-example.${head}.${SECRET}.c2ln`, "")).toBe("www.some-example.REDACTED");
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
  [
    "multipart/form-data; boundary=b",
    `--b\r\nContent-Disposition: form-data; name=user\r\n\r\nann\r\n--b\r\nContent-Disposition: form-data; name=password\r\n\r\n${SECRET}\r\n${SECRET}\r\n--b--\r\n`,
  ],
  [
    "multipart/form-data; boundary=other",
    `--b\r\nContent-Disposition: form-data; filename="a"; name="json"\r\n\r\n{"user":"ann","password":"${SECRET}"}\r\n--b--\r\n`,
  ],
  ["multipart/form-data", `--b\nContent-Disposition: form-data; name="user"\n\nann\n--b\nX: y; name=key\n\n${SECRET}`],
  ...[
    "",
    "text/plain",
    "text/event-stream",
    "application/xml",
    "application/graphql",
    "application/x-www-form-urlencoded",
  ].map((type) => [type, `{"user":"ann","password":"${SECRET}"}`] as const),
  ["application/x-ndjson", `{"user":"ann"}\n{"password":"${SECRET}"}\n{"apiKey":["${SECRET}"]}\n`],
  ["text/event-stream", `event: login\ndata: {"user":"ann","password":"${SECRET}"}\n\n`],
  ["text/plain", `log of ann: {"password": {"a":"${SECRET}"}}`],
  ["application/json", `{"user":"ann","body":"{\\"password\\":\\"a\\\\\\"${SECRET}\\",\\"more`],
  ["application/json", JSON.stringify({ query: `mutation { login(user: "ann", password: "${SECRET}") { id } }` })],
  ["application/json", JSON.stringify({ user: "ann", link: `/reset?token=${SECRET}` })],
  ["application/graphql", `mutation { login(user: "ann", password: "a\\"${SECRET}") { id } }`],
  ["application/xml", `<user name="ann"><password kind="x">${SECRET}</password></user>`],
  ["text/xml; charset=utf-8", `<a><user>ann</user><s:Password><![CDATA[<${SECRET}]]></s:Password></a>`],
  ["application/xml", `<login user="ann" password = '${SECRET}'/>`],
  [
    "text/html",
    `<p>ann <input type="hidden" name="csrf_token" value="${SECRET}"><meta name=csrf-token content='${SECRET}'>`,
  ],
  ["text/html", `<p>ann <input value="${SECRET}" type="password" name="p">`],
  [
    "application/x-www-form-urlencoded",
    `user=ann&payload=${encodeURIComponent(JSON.stringify({ user: "ann", password: SECRET }))}`,
  ],
  ["text/yaml", `user: ann\nlogin:\n  - password: ${SECRET} ${SECRET}\n`],
  ["text/plain", `user=ann&password=${SECRET}`],
  ["text/plain", `USER=ann\nAPI_KEY=${SECRET}\n`],
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

test("parts without secrets stay as they are, byte for byte", () => {
  const type = 'multipart/form-data; boundary="b b"';
  for (const end of ["\r\n", "\n"]) {
    const lines = [
      "preamble",
      "--b b",
      'X: y; name="a"; filename="token"',
      "",
      "1",
      "",
      "2--b b",
      "--b b",
      "X: y",
      "",
      "",
      "--b b--",
      "",
    ];
    expect(redactBody(lines.join(end), type)).toBe(lines.join(end));
  }
});

test("in text only what is named is hidden", () => {
  for (const text of [
    'Say "hello": the password is not named here.',
    '<title>Reset password</title><label for="password">Password</label>',
    'query Q($token: String!) { me(first: 10, author: "ann") { id } }',
    "a == b, c => d; data: token\nhttps://app.example/x?page=2",
  ]) {
    expect(redactBody(text, "text/plain")).toBe(text);
  }
  expect(redactBody('<a token="s" b="c"><b>t</b></a>', "text/xml")).toBe('<a token="REDACTED" b="c"><b>t</b></a>');
  expect(redactBody(`a {"token":1,"b":2} c`, "")).toBe('a {"token":"REDACTED","b":2} c');
});

/** Far from what any of them takes, and from what it would take if its time were quadratic. */
const MAX_CPU_MS = 500;
/** The least of up to three runs, in ms of this process: what else the machine does counts less. */
function cpuMs(run: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3 && least >= MAX_CPU_MS; i += 1) {
    const began = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(began);
    least = Math.min(least, (user + system) / 1_000);
  }
  return least;
}

const SIZE = 256 * 1024;

describe("hostile bodies cost no more than their length", () => {
  test.each([
    ...['name="a"\n', "eyJaaaaaa-", "eyJaaaaaa.", "eyJ", "eyJaaaaaa", "?", '"a":', '{"password":[', "name=", '"\\'],
    ...[
      'name="password"\r\n\r\n',
      "a=b&",
      "\\",
      '\\"',
      '\\"a',
      '"',
      '"a',
      "'a:",
      "password='",
      'a:"',
      "a ",
      " ",
      "\n",
      "\r\n",
    ],
    ...[
      "<",
      "<a",
      "<a ",
      "<password>",
      "<password><![CDATA[",
      "<a> ",
      '<a name="',
      "<a name=token ",
      " value=",
      "--",
      "--x",
      "--x\n\n",
      "a.",
      "a://",
      "://a",
      "@",
    ],
    ...[
      "Bearer ",
      "Basic aaaaaaa",
      "- ",
      "-",
      "password: ",
      "password=",
      "[",
      '{"a":',
      '"password":{"',
      '\\"a\\":',
      "é",
    ],
  ])("%j", (part) => {
    const text = part.repeat(Math.floor(SIZE / part.length));
    for (const type of [
      "application/json",
      "multipart/form-data; boundary=x",
      "application/x-www-form-urlencoded",
      "",
    ]) {
      expect([type, cpuMs(() => redactBody(text, type)) < MAX_CPU_MS]).toEqual([type, true]);
    }
    const headers = ["Cookie", "Set-Cookie", "Authorization", "Referer", "X-Other"].flatMap((name) => [name, text]);
    expect(cpuMs(() => redactHeaders(headers))).toBeLessThan(MAX_CPU_MS);
    expect(cpuMs(() => redactTarget(`/${text}?${text}`))).toBeLessThan(MAX_CPU_MS);
    expect(cpuMs(() => redactPairs(text))).toBeLessThan(MAX_CPU_MS);
  });

  test("JSON of many levels with a secret", () => {
    const levels = 30_000;
    const text = `{"password":1,"a":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    expect(cpuMs(() => redactBody(text, "application/json"))).toBeLessThan(MAX_CPU_MS);
    expect(redactBody(text, "application/json")).toContain("REDACTED");
  });
});
