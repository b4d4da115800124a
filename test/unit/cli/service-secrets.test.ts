import { describe, expect, test } from "bun:test";
import { identityOfToken } from "../../../src/cli/service-identity.ts";
import { findCloudflared } from "../../../src/cli/service-migrate.ts";
import { type Place, planConnector } from "../../../src/cli/service-plan.ts";
import { withoutIdentity } from "../../../src/cli/service-secrets.ts";
import { layoutOf, type ServiceSpec } from "../../../src/service/layout.ts";
import { thisMachine } from "../../../src/service/machine.ts";
import { openrc } from "../../../src/service/openrc.ts";
import type { FileStep } from "../../../src/service/steps.ts";
import { describeStep } from "../../../src/service/steps.ts";
import { createSystemd } from "../../../src/service/systemd.ts";
import { memoryHost } from "../config/memory-host.ts";

const SECRET = btoa("S3cr3tS3cr3tS3cr3tS3cr3t");
const TUNNEL = "01234567-89ab-cdef-0123-456789abcdef";
const TOKEN = btoa(JSON.stringify({ a: "account", t: TUNNEL, s: SECRET }));
const CONFIG = "/etc/culvert/config.yml";
const RULES = "ingress:\n- service: http_status:418 # teapot\n";

function place(
  files: Readonly<Record<string, string>>,
  { init = openrc, user }: { readonly init?: Place["init"]; readonly user?: string } = {},
): Place {
  const program = ["/usr/local/bin/culvert"];
  const spec: ServiceSpec = { role: "connector", name: undefined, scope: { kind: "system" }, program, user };
  return { host: memoryHost(files), init, spec, layout: layoutOf(spec, init.family) };
}

function install(at: Place, text: string): { readonly file: FileStep; readonly shown: string } | string {
  const identity = identityOfToken(TOKEN);
  if (!identity.ok) throw new Error(identity.error);
  const planned = planConnector(at, { identity: identity.value, config: { path: "/my.yml", text }, replace: false });
  if (!planned.ok) return planned.error;
  const file = planned.value.find((step): step is FileStep => step.kind === "file" && step.path === CONFIG);
  if (file === undefined) throw new Error("must write a configuration");
  return { file, shown: planned.value.map(describeStep).join("\n") };
}

describe("the copy of a configuration that a service reads", () => {
  test.each([
    [
      "a token",
      `# mine\ntoken: ${TOKEN}\nloglevel: debug # much\n${RULES}`,
      `# mine\nloglevel: debug # much\n${RULES}`,
    ],
    ["a token at the end", `${RULES}"token" : '${TOKEN}'`, RULES],
    ["a token of several lines", `token: >-\n  ${TOKEN}\n# rules\n${RULES}`, `# rules\n${RULES}`],
    ["lines of Windows", `token: ${TOKEN}\r\nloglevel: debug\r\n`, "loglevel: debug\r\n"],
    ["a key without effect", `api-key: ${SECRET}\n${RULES}`, RULES],
    [
      "credentials, and where others are",
      `credentials-contents: '{"TunnelSecret":"${SECRET}"}'\ncredentials-file: /c.json\n${RULES}`,
      `credentials-file: /c.json\n${RULES}`,
    ],
    ["nothing secret", RULES, RULES],
  ])("%s", (_, text, copy) => {
    expect(withoutIdentity("/my.yml", text)).toEqual({ ok: true, value: { text: copy, secrets: [] } });
  });

  test.each([
    ["in braces", `{token: ${TOKEN}, loglevel: debug}\n`],
    ["in a comment too", `# ${TOKEN}\ntoken: ${TOKEN}\n`],
    ["with an anchor that is used", `token: &a ${TOKEN}\ntag: [*a]\n`],
    ["merged", `x: &base\n  token: ${TOKEN}\n<<: *base\n`],
  ])("a token %s is refused, and not quoted", (_, text) => {
    const copy = withoutIdentity("/my.yml", text);
    expect(copy.ok ? copy.value : copy.error).toBe(
      'Cannot leave "token" out of a copy of "/my.yml": take it out by hand, and give the token',
    );
  });

  test("is for everybody without a secret, which --dry-run does not show", () => {
    const made = install(place({}), `token: ${TOKEN}\n${RULES}`);
    expect(made).toMatchObject({ file: { content: RULES, mode: 0o644 } });
    expect(typeof made === "string" ? "" : made.shown).not.toContain(TOKEN);
  });

  test("is the same the next time, and still another where it is", () => {
    const text = `token: ${TOKEN}\n${RULES}`;
    expect(install(place({ [CONFIG]: RULES }), text)).toMatchObject({ file: { content: RULES } });
    expect(install(place({ [CONFIG]: text }), text)).toMatchObject({ file: { content: RULES } });
    expect(install(place({ [CONFIG]: "loglevel: debug\n" }), text)).toContain("is different: give --replace");
  });

  test("is only for the service's account where it needs a secret", () => {
    const text = `metrics-auth: me:${SECRET}\n`;
    const made = install(place({}), text);
    expect(made).toMatchObject({ file: { content: text, mode: 0o600, owner: "culvert" } });
    expect(typeof made === "string" ? "" : made.shown).not.toContain(SECRET);
    expect(install(place({}, { init: createSystemd(252), user: "ann" }), text)).toMatchObject({
      file: { mode: 0o600, owner: "ann" },
    });
    // An account that is made for each run owns no file.
    expect(install(place({}, { init: createSystemd(252) }), text)).toMatch(
      /^\/my.yml holds metrics-auth, which every account .* give --user NAME/,
    );
    expect(install(place({}), "edge-proxy: socks5://proxy:1080\n")).toMatchObject({ file: { mode: 0o644 } });
    expect(install(place({}), "edge-proxy: socks5://me:pw@proxy:1080\n")).toMatchObject({ file: { mode: 0o600 } });
  });

  test("has nothing of it after --migrate either", async () => {
    const at = place({
      "/etc/init.d/cloudflared": `cmd="/usr/bin/cloudflared --config /c.yml tunnel --loglevel debug run"\n`,
      "/c.yml": `token: ${TOKEN}\nmetrics: 127.0.0.1:9\n${RULES}`,
    });
    const found = await findCloudflared(at, thisMachine);
    if (!found.ok) throw new Error(found.error);
    const planned = planConnector(at, { ...found.value, replace: false });
    if (!planned.ok) throw new Error(planned.error);
    const shown = [...planned.value, ...found.value.after].map(describeStep).join("\n");
    expect(shown).toContain("loglevel");
    expect(shown).toContain("teapot");
    expect(shown).not.toContain(TOKEN);
  });
});
