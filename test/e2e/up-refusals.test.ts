import { expect, test } from "bun:test";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { runProcess } from "../support/processes.ts";

const up = (...args: readonly string[]) =>
  runProcess([...culvertCommand(), "up", "--once", ...args], { env: cleanEnvironment() });

test.each([
  "a b",
  "*.localhost",
  "*",
  "app.localhost:80",
  "http://app.localhost",
  "a/b",
  "256.1.1.1",
  "192.0.2.7",
  "1",
  "a..localhost",
  "-a.localhost",
  `${"a".repeat(64)}.localhost`,
])("up --hostname '%s' is no hostname", async (hostname) => {
  expect(await up("--hostname", hostname)).toMatchObject({
    code: 255,
    stdout: "",
    stderr: `culvert: --hostname "${hostname}" must be a hostname such as app.localhost (no scheme, port, path, wildcard or address)\nSee 'culvert up --help'.\n`,
  });
});

test("a hostname that would steer the terminal does not when it is refused", async () => {
  const { code, stdout, stderr } = await up("--hostname", "a\x1b[31m");
  expect([code, stdout]).toEqual([255, ""]);
  expect(stderr).toStartWith('culvert: --hostname "a\\u001b[31m" must be a hostname');
});

test.each([
  { args: ["--inspect-port", "5000"], why: "--inspect-port needs --inspect" },
  { args: ["--inspect=false", "--inspect-port", "0"], why: "--inspect-port needs --inspect" },
  { args: ["--url", "http://127.0.0.1:9", "--hello-world"], why: "Give --url or --hello-world, not both" },
])("up $args is refused, since one of them would do nothing", async ({ args, why }) => {
  const { code, stdout, stderr } = await up(...args);
  expect([code, stdout]).toEqual([255, ""]);
  expect(stderr).toStartWith(`culvert: ${why}`);
});

test("all that is wrong is told at once", async () => {
  const { code, stderr } = await up("--hostname", "a/b,ok.localhost,c d", "--inspect-port", "1");
  expect(code).toBe(255);
  expect(stderr.match(/^culvert: /gm)).toHaveLength(3);
});

test("hostnames are taken in any case, with a dot at the end, several at once", async () => {
  const { code, stdout, stderr } = await up("--hostname", "App.Localhost.,my_app.localhost", "--hello-world");
  expect(stdout).toMatch(/^http:\/\/app\.localhost:(\d+)\nhttp:\/\/my_app\.localhost:\1\n$/);
  expect([code, stderr]).toEqual([0, expect.stringContaining("answered 200")]);
}, 30_000);

test("a hostname beyond ASCII is served as browsers ask for it", async () => {
  const { code, stdout, stderr } = await up("--hostname", "EXÄMPLE.localhost", "--hello-world");
  expect(stdout).toMatch(/^http:\/\/xn--exmple-cua\.localhost:\d+\n$/);
  expect([code, stderr]).toEqual([0, expect.stringContaining("answered 200")]);
}, 30_000);
