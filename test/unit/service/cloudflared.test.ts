import { describe, expect, test } from "bun:test";
import { readPlist, readScript, readUnit } from "../../../src/service/cloudflared.ts";
import { splitWords } from "../../../src/service/quote.ts";

const noFile = (): undefined => undefined;

describe("what a service of cloudflared runs", () => {
  test("the unit it writes itself", () => {
    const unit =
      "[Service]\nTimeoutStartSec=15\nType=notify\nExecStart=/usr/bin/cloudflared --no-autoupdate tunnel run --token-file /etc/cloudflared/token\nRestart=on-failure\n";
    expect(readUnit(unit, noFile)).toEqual({
      args: ["--no-autoupdate", "tunnel", "run", "--token-file", "/etc/cloudflared/token"],
      env: {},
    });
  });

  test("a unit with quotes, a continued line, variables, and a command that was taken back", () => {
    const unit = `[Service]
Environment="TUNNEL_TOKEN=abc def" TUNNEL_METRICS=127.0.0.1:1
ExecStart=/bin/false
ExecStart=
ExecStart=/usr/bin/cloudflared tunnel \\
  --config "/etc/my files/c.yml" run
`;
    expect(readUnit(unit, noFile)).toEqual({
      args: ["tunnel", "--config", "/etc/my files/c.yml", "run"],
      env: { TUNNEL_TOKEN: "abc def", TUNNEL_METRICS: "127.0.0.1:1" },
    });
  });

  test("a unit that starts nothing", () => {
    expect(readUnit("[Service]\nExecStart=\n", noFile)).toBeUndefined();
    expect(readUnit("", noFile)).toBeUndefined();
  });

  test("a unit with drop-ins, as systemctl cat prints them", () => {
    const printed = `# /etc/systemd/system/cloudflared.service
[Service]
Environment=TUNNEL_LOGLEVEL=warn TUNNEL_TOKEN=old
EnvironmentFile=/etc/default/old
ExecStart=/usr/bin/cloudflared tunnel run --token old

# /etc/systemd/system/cloudflared.service.d/10.conf
[Service]
Environment=
Environment=TUNNEL_METRICS=127.0.0.1:1 TUNNEL_REGION=us
EnvironmentFile=
EnvironmentFile=-/etc/default/cloudflared
EnvironmentFile=-/nowhere
# /etc/systemd/system/cloudflared.service.d/20.conf
[Service]
ExecStart=
ExecStart=/usr/bin/cloudflared tunnel run
`;
    const files: Readonly<Record<string, string>> = {
      "/etc/default/old": "TUNNEL_LOGFILE=/old\n",
      "/etc/default/cloudflared": '# mine\nTUNNEL_TOKEN="abc"\nTUNNEL_METRICS=127.0.0.1:2\n',
    };
    expect(readUnit(printed, (path) => files[path])).toEqual({
      args: ["tunnel", "run"],
      env: { TUNNEL_METRICS: "127.0.0.1:2", TUNNEL_REGION: "us", TUNNEL_TOKEN: "abc" },
    });
  });

  test("scripts of System V and OpenRC", () => {
    const sysv = 'name=cloudflared\ncmd="/usr/bin/cloudflared --pidfile /var/run/$name.pid tunnel run --token abc"\n';
    expect(readScript(sysv)?.args).toEqual(["--pidfile", "/var/run/$name.pid", "tunnel", "run", "--token", "abc"]);
    expect(readScript('command="/usr/bin/cloudflared"\ncommand_args="tunnel run"\n')?.args).toEqual(["tunnel", "run"]);
    expect(readScript("#!/bin/sh\n")).toBeUndefined();
  });

  test("a property list", () => {
    const plist =
      "<key>ProgramArguments</key>\n<array>\n<string>/usr/local/bin/cloudflared</string>\n<string>tunnel</string>\n<string>--tag</string>\n<string>a&amp;b=c</string>\n</array>";
    expect(readPlist(plist)?.args).toEqual(["tunnel", "--tag", "a&b=c"]);
    expect(readPlist("<plist/>")).toBeUndefined();
  });
});

test.each([
  ["a  b\tc", ["a", "b", "c"]],
  [`'a b' "c\\"d" e\\ f`, ["a b", 'c"d', "e f"]],
  [`a"b"'c'`, ["abc"]],
  ['"" x', ["", "x"]],
  ["", []],
])("the words of %j", (line, words) => {
  expect(splitWords(line)).toEqual(words);
});
