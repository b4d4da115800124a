import { describe, expect, test } from "bun:test";
import { newConnectorId, newTunnelId } from "../../../src/core/ids.ts";
import { shownHeaders } from "../../../src/core/log-redact.ts";
import { redactTarget } from "../../../src/core/redact-target.ts";
import { isSecretField, isSecretName } from "../../../src/core/secret-names.ts";
import { accessLine } from "../../../src/edge/access-line.ts";
import { redactBody, redactHeaders, redactPairs } from "../../../src/edge/inspect/redact.ts";
import type { AccessEntry } from "../../../src/edge/listener/visitor-deps.ts";

const VALUE = "hunter2-4f9d";
const ENTRY: AccessEntry = {
  ...{ ray: "0123456789abcdef-LAB", ip: "192.0.2.1", scheme: "https", protocol: "HTTP/2.0", method: "GET" },
  ...{ host: "app.example.com", target: "/", headers: [], status: 200, bytesIn: 1, bytesOut: 2 },
  ...{ firstByteMs: 1, durationMs: 2, error: undefined, retries: 0, answeredBy: "origin" },
  ...{ tunnelId: newTunnelId(), connectorId: newConnectorId() },
};
const CONTEXT = { query: true, wallMs: 0, rules: "remote" } as const;

/** All that is ever shown of a header field, and of a parameter, with this name. */
function shown(name: string): Record<string, string> {
  const target = `/a?page=2&${name}=${VALUE}&b=1`;
  const entry = { ...ENTRY, target, headers: ["Referer", `https://a.example${target}`] };
  return {
    debugLog: shownHeaders([name, VALUE]),
    inspectedField: redactHeaders([name, VALUE]).flat().join(": "),
    inspectedTarget: redactTarget(target),
    inspectedPairs: redactPairs(target.slice(target.indexOf("?") + 1)).join(),
    inspectedForm: redactBody(target.slice(target.indexOf("?") + 1), "application/x-www-form-urlencoded"),
    inspectedJson: redactBody(JSON.stringify({ [name]: VALUE }), "application/json"),
    accessJson: accessLine("json", entry, CONTEXT),
    accessCombined: accessLine("combined", entry, CONTEXT),
  };
}

function whereShown(name: string): readonly string[] {
  return Object.entries(shown(name)).flatMap(([where, text]) => (text.includes(VALUE) ? [where] : []));
}

const EVERYWHERE = Object.keys(shown("page"));

describe("a secret by its name is shown nowhere", () => {
  test.each([
    ...["Authorization", "Proxy-Authorization", "Authentication-Info", "Proxy-Authentication-Info", "X-Authorization"],
    ...["Cookie", "Set-Cookie", "Cookie2", "X-Access-Key", "X-Api-Key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key"],
    ...["X-Functions-Key", "X-Auth-Key", "X-Parse-Master-Key", "DD-Application-Key", "Private-Token", "X-Authtoken"],
    ...["X-Auth-Token", "X-Vault-Token", "X-Amz-Security-Token", "X-Amz-Credential", "X-Amz-Signature", "X-Tokenid"],
    ...["X-Hub-Signature-256", "Stripe-Signature", "X-Shopify-Hmac-Sha256", "X-CSRF-Token", "X-Xsrf", "Jwt", "X-Jwt"],
    ...["Cf-Access-Jwt-Assertion", "Cf-Access-Client-Secret", "Cf-Access-Token", "CF_Authorization", "X-Session-Id"],
    ...[
      "Cf-Access-Authenticated-User-Email",
      "X-Authenticated-Groups",
      "X-Websession",
      "X-Goog-AuthUser",
      "X-WebAuth-User",
      "X-Forwarded-Client-Cert",
    ],
    ...["Client-Cert", "Client-Cert-Chain", "X-SSL-Client-Cert", "X-Amz-Mtls-Clientcert", "X-Otp", "X-Bearer"],
    ...["PHPSESSID", "JSESSIONID", "connect.sid", "accessToken", "refreshtoken", "client_secret", "clientSecret"],
    ...["password", "userPassword", "userpwd", "passwd", "passphrase", "passcode", "sig", "SAMLResponse", "oauth"],
    ...["aws_secret_access_key", "AWSAccessKeyId", "XCSRFToken", "user[password]", "tokens", "credentials"],
    ...[
      "reset_code",
      "verificationCode",
      "device_code",
      "code_verifier",
      "mfa_code",
      "2fa_code",
      "sms_code",
      "smsCode",
    ],
    ...["one_time_code", "one-time-code"],
  ])("%s", (name) => {
    for (const spelled of [name, name.toLowerCase(), name.toUpperCase()])
      expect([spelled, whereShown(spelled)]).toEqual([spelled, []]);
  });

  test("nor when its name is encoded, or so long that it is nobody's", () => {
    for (const name of ["access%5Ftoken", "%70assword", "user%5Bpassword%5D", "x".repeat(300)]) {
      const { inspectedTarget, inspectedPairs, inspectedForm, accessJson, accessCombined } = shown(name);
      for (const text of [inspectedTarget, inspectedPairs, inspectedForm, accessJson, accessCombined]) {
        expect(text).not.toContain(VALUE);
      }
    }
  });
});

describe("what is no secret is shown everywhere", () => {
  test.each([
    ...["Host", "Accept", "Accept-Encoding", "Cache-Control", "Content-Type", "Content-Length", "Content-Disposition"],
    ...["Cf-Ray", "Cf-Connecting-Ip", "Cf-Access-Client-Id", "Cf-Visitor", "X-Forwarded-For", "X-Request-Id", "ETag"],
    ...["If-None-Match", "Keep-Alive", "Connection", "Upgrade", "Origin", "Vary", "Via", "Traceparent", "User-Agent"],
    // Handshakes prove with these that it is one, and authenticate nobody (RFC 6455 section 1.3).
    ...["Sec-WebSocket-Key", "Sec-WebSocket-Accept", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions"],
    // A challenge goes to whoever asks.
    ...["WWW-Authenticate", "Proxy-Authenticate", "Access-Control-Allow-Credentials", "Access-Control-Allow-Origin"],
    ...[
      "Idempotency-Key",
      "Surrogate-Key",
      "cache_key",
      "primaryKey",
      "keywords",
      "app_keywords",
      "keyboard",
      "monkey",
    ],
    ...["author", "authority", "authorName", "tokenizer", "secretary", "passenger", "compass", "bypass", "inside"],
    ...[
      "design",
      "obsession",
      "possession",
      "authenticated",
      "page",
      "sort",
      "name",
      "zip_code",
      "status_code",
      "encoding",
    ],
  ])("%s", (name) => {
    for (const spelled of [name, name.toLowerCase()])
      expect([spelled, whereShown(spelled)]).toEqual([spelled, EVERYWHERE]);
  });
});

describe("a key or code of what nobody knows is hidden in queries and forms, and left to be looked at elsewhere", () => {
  test.each([
    ...["email_code", "sso_code", "pin_code", "join_code", "joinCode", "join.code", "join%5Fcode", "user[code]"],
    ...["stream_key", "sas_key", "deploy_key", "share_key", "stripe_key", "x-key", "X-KEY", "stream-key[]"],
  ])("%s", (name) => {
    expect(isSecretField(name)).toBe(true);
    expect(whereShown(name)).toEqual(["debugLog", "inspectedField", "inspectedJson"]);
  });

  test.each([
    ...["cache_key", "primaryKey", "sort_key", "partition-key", "public_key", "zip_code", "postalCode", "lang_code"],
    ...["status_code", "http.code", "errorCode", "user_country_code", "address[postal][code]", "currency%5Fcode"],
    ...["issue_key", "projectKey", "search_key", "store_code", "keyCode", "char-code", "promo_code", "couponCode"],
  ])("but not %s", (name) => {
    expect(whereShown(name)).toEqual(EVERYWHERE);
  });
});

describe("in queries, forms and, most of them, JSON a secret, elsewhere a word", () => {
  test.each([
    ...["key", "code", "Pass", "pin", "PIN", "ssn", "cvv", "CVC", "cvv2", "card_number", "cardNumber", "cardnumber"],
    ...["card-number", "card[number]", "card[cvc]", "credit_card_number", "cc-number", "cc-csc", "code[]"],
  ])("%s", (name) => {
    expect([isSecretField(name), isSecretName(name)]).toEqual([true, false]);
    const inJson = /^(?:key|code)/.test(name) ? ["inspectedJson"] : [];
    expect(whereShown(name)).toEqual(["debugLog", "inspectedField", ...inJson]);
  });

  test("but an error's code, and the key of an entry, are what JSON is looked at for", () => {
    const body = '{"error":{"code":"not_found","key":"name"},"text":"{\\"code\\":404}"}';
    for (const text of [body, body.slice(0, -1)]) expect(redactBody(text, "application/json")).toBe(text);
  });

  test.each(["zip_code", "cache_key", "country[code]", "pinned", "shipping", "pincode", "keyed", "encode", "card"])(
    "but not %s, which only has it in its name",
    (name) => expect(whereShown(name)).toEqual(EVERYWHERE),
  );

  test("also as a number, in a body that was cut off, in JSON as text, and in a form of no type", () => {
    const body = { pin: 4917, error: "no", payment: JSON.stringify({ card_number: VALUE, cvc: 123 }), pass: VALUE };
    const whole = JSON.stringify(body);
    for (const text of [whole, whole.slice(0, -1), JSON.stringify({ data: whole })]) {
      const hidden = redactBody(text, "application/json");
      expect(hidden).not.toMatch(new RegExp(`4917|123|${VALUE}`));
      expect(hidden).toContain("error");
    }
    for (const type of ["", "text/plain"]) {
      expect(redactBody(`a=1&code=${VALUE}&card%5Fnumber=4111+1111&b=2`, type)).toBe(
        "a=1&code=REDACTED&card%5Fnumber=REDACTED&b=2",
      );
    }
    // An element of HTML, and a word of a sentence.
    expect(redactBody("<p>Call <code>exit</code>: the key is code=5</p>", "text/html")).toContain("<code>exit</code>");
  });
});

test("a verdict stays the same however many names came in between", () => {
  for (let i = 0; i < 3_000; i += 1) {
    expect([isSecretName(`x-token-${i}`), isSecretName(`x-page-${i}`)]).toEqual([true, false]);
    expect([isSecretName("X-Access-Key"), isSecretName("Content-Type")]).toEqual([true, false]);
  }
});
