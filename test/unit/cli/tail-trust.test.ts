import { expect, test } from "bun:test";
import { join } from "node:path";
import { usualStateDir } from "../../../src/cli/edge-state.ts";
import { isUnknownIssuer, knownAuthorities, withTrustHint } from "../../../src/cli/tail-trust.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { commandContext } from "../../support/command-context.ts";
import { memoryHost } from "../config/memory-host.ts";

function contextWith(files: Readonly<Record<string, string>>) {
  return commandContext({ host: memoryHost(files) });
}

test("authorities that this account knows: of the API that gave the token, and of the edge on this machine", async () => {
  const path = join(usualStateDir(memoryHost({})), "ca.pem");
  expect(await knownAuthorities(contextWith({}), undefined)).toEqual([]);
  expect(await knownAuthorities(contextWith({ [path]: "HERE" }), undefined)).toEqual(["HERE"]);
  expect(await knownAuthorities(contextWith({ [path]: "HERE" }), "API")).toEqual(["API", "HERE"]);
  expect(await knownAuthorities(contextWith({ [path]: "SAME" }), "SAME")).toEqual(["SAME"]);
});

test.each([
  ["dial.tls", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", true],
  ["dial.tls", "SELF_SIGNED_CERT_IN_CHAIN", true],
  ["dial.tls", "DEPTH_ZERO_SELF_SIGNED_CERT", true],
  ["dial.tls", "CERT_HAS_EXPIRED", false],
  ["dial.tls", "ERR_TLS_CERT_ALTNAME_INVALID", false],
  ["dial.tls", "ECONNRESET", false],
  ["dial.failed", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", false],
] as const)("%s of %s is about an unknown issuer: %p", (code, system, expected) => {
  const cause = Object.assign(new Error(system), { code: system });
  expect(isUnknownIssuer(new TunnelError(code, "x", { cause }))).toBe(expected);
});

test("the hint stands behind the reason and changes nothing else", () => {
  const error = new TunnelError("dial.tls", "TLS handshake with a:1 failed: why", { retry: "elsewhere" });
  expect(withTrustHint(error)).toMatchObject({ code: "dial.tls", retry: "elsewhere" });
  expect(withTrustHint(error).message).toMatch(/^TLS handshake with a:1 failed: why: .*--ca-file ca\.pem$/);
});
