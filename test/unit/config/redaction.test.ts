import { expect, test } from "bun:test";
import { buildRunConfig } from "../../../src/config/run-config.ts";
import { memoryHost } from "./memory-host.ts";

const SECRET = "S3cr3tS3cr3tS3cr3tS3cr3t";
const TUNNEL = "01234567-89ab-cdef-0123-456789abcdef";

interface Case {
  readonly name: string;
  readonly args?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
}

const credentials = (text: string): Record<string, string> => ({ "/c.json": text });
const config = (text: string): Record<string, string> => ({ "/c.yml": text });
const inFile = { config: "/c.yml" };
const byFile = { "credentials-file": "/c.json" };

const CASES: readonly Case[] = [
  { name: "token", args: { token: SECRET } },
  { name: "token that is base64 of no JSON", args: { token: btoa(SECRET) } },
  {
    name: "token with a secret that is no base64",
    args: { token: btoa(JSON.stringify({ a: "a", t: TUNNEL, s: `!${SECRET}` })) },
  },
  {
    name: "token with a field of the wrong type",
    args: { token: btoa(JSON.stringify({ a: 1, t: SECRET, s: SECRET })) },
  },
  { name: "token of the environment", env: { TUNNEL_TOKEN: SECRET } },
  { name: "token of a token file", args: { "token-file": "/t" }, files: { "/t": `${SECRET}\n` } },
  { name: "token of the config file", args: inFile, files: config(`token: ${SECRET}`) },
  { name: "token of the config file, as a list", args: inFile, files: config(`token: [${SECRET}]`) },
  { name: "token twice in the config file", args: inFile, files: config(`token: ${SECRET}\ntoken: ${SECRET}`) },
  { name: "token in a file that is no YAML", args: inFile, files: config(`token: "${SECRET}`) },
  { name: "token in a file with a wrong indent", args: inFile, files: config(`a: 1\n token: ${SECRET}: x\n`) },
  { name: "token behind an unknown key", args: inFile, files: config(`tokn: ${SECRET}`) },
  { name: "credentials that are no JSON", args: byFile, files: credentials(SECRET) },
  { name: "credentials that end early", args: byFile, files: credentials(`{"TunnelSecret": "${SECRET}"`) },
  {
    name: "credentials with a wrong secret",
    args: byFile,
    files: credentials(JSON.stringify({ AccountTag: "a", TunnelID: TUNNEL, TunnelSecret: `!${SECRET}` })),
  },
  { name: "credentials of the environment", env: { TUNNEL_CRED_CONTENTS: `{"TunnelSecret": ${SECRET}}` } },
  {
    name: "password of a proxy",
    args: { "edge-proxy": `ftp://user:${SECRET}@proxy:1`, token: validToken(), edge: "e:1" },
  },
  {
    name: "password of a proxy without a port",
    args: { "edge-proxy": `http://user:${SECRET}@:`, token: validToken(), edge: "e:1" },
  },
  {
    name: "password of a proxy of the environment",
    args: { token: validToken(), edge: "e:1" },
    env: { HTTPS_PROXY: `http://user:${SECRET}@ho st:1` },
  },
];

test.each(CASES)("a wrong $name is reported without it", ({ args, env, files }) => {
  const flags = new Map(Object.entries(args ?? {}).map(([name, text]) => [name, [text]] as const));
  const built = buildRunConfig(memoryHost(files, env), flags, []);
  if (built.kind !== "failed") throw new Error("must fail");
  expect(built.errors.length).toBeGreaterThan(0);
  const said = [...built.errors, ...built.warnings.map(({ text }) => text)].join("\n");
  // A part of a secret is too much as well.
  for (const part of [SECRET.slice(0, 8), btoa(SECRET).slice(0, 8), args?.["token"] ?? SECRET]) {
    expect(said).not.toContain(part);
  }
});

function validToken(): string {
  return btoa(JSON.stringify({ a: "a", t: TUNNEL, s: btoa(SECRET) }));
}
