import { expect, test } from "bun:test";
import { parseAppAddress } from "../../../src/access/address.ts";
import { isLoginRedirect, refusedHandshake } from "../../../src/access/refusal.ts";

const parsed = parseAppAddress("app.example.com");
if (!parsed.ok) throw new Error("no address");
const app = parsed.value;

test.each([
  [200, "a service of HTTP is behind this hostname", "never"],
  [301, 'redirects to "https://other/"', "never"],
  [401, "--service-token-id", "never"],
  [403, "access is denied", "never"],
  [404, "no tunnel serves", "never"],
  [418, "the request is refused", "never"],
  [426, "the request is refused", "never"],
  [502, "its service cannot be reached", "never"],
  [503, "too much to do", "same"],
  [530, "is not connected", "same"],
  [599, "failed", "never"],
] as const)("status %d has a hint", (status, hint, retry) => {
  const error = refusedHandshake(app, status, ["Location", "https://other/"]);
  expect(error.message).toStartWith(`https://app.example.com answered ${status}: `);
  expect(error.message).toContain(hint);
  expect(error).toMatchObject({ code: "edge.refused", retry });
});

test.each([
  [302, "https://team.cloudflareaccess.com/cdn-cgi/access/login/app?kid=1", true],
  [302, "/cdn-cgi/access/login", true],
  [302, "https://team.example/other", false],
  [301, "/cdn-cgi/access/login", false],
  [200, "/cdn-cgi/access/login", false],
])("%d to %s is a login: %p", (status, location, expected) => {
  expect(isLoginRedirect(status, ["location", location])).toBe(expected);
});
