import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Command } from "../../../src/cli/command.ts";
import { ROOT } from "../../../src/cli/commands.ts";
import { commandName, type ParsedArguments, parseArguments } from "../../../src/cli/parse.ts";
import { Values } from "../../../src/config/values.ts";

/** A command line as a shell would split it, without quotes. */
function parse(line: string): ParsedArguments {
  return parseArguments(ROOT, line === "" ? [] : line.split(" "));
}

function run(line: string): { command: string; args: Record<string, readonly string[]>; rest: readonly string[] } {
  const parsed = parse(line);
  if (parsed.kind !== "run") throw new Error(`"${line}" is read as ${parsed.kind}`);
  return { command: commandName(parsed.path), args: Object.fromEntries(parsed.args), rest: parsed.positionals };
}

function messageOf(line: string): string {
  const parsed = parse(line);
  return parsed.kind === "usage" ? parsed.message : `read as ${parsed.kind}`;
}

describe("flags are taken wherever cloudflared takes them", () => {
  const all = { edge: ["a:1"], cacert: ["f"], protocol: ["http2"], url: ["u"], token: ["t"] };

  test.each([
    "tunnel --edge a:1 --cacert f --protocol http2 run --url u --token t",
    "tunnel run --edge a:1 --cacert f --protocol http2 --url u --token t",
    "--edge a:1 --cacert f tunnel --protocol http2 --url u run --token t",
    "tunnel -edge a:1 -cacert=f -p http2 run -url=u -token t",
    "tunnel --edge=a:1 --cacert=f -p=http2 run --url=u --token=t",
    "tunnel run --token t --url u --p http2 --cacert f --edge a:1",
  ])("%s", (line) => {
    expect(run(line)).toEqual({ command: "culvert tunnel run", args: all, rest: [] });
  });

  test("--config before tunnel", () => {
    expect(run("--config x.yml tunnel run").args).toEqual({ config: ["x.yml"] });
  });

  test("--token is of run alone", () => {
    expect(messageOf("tunnel --token t run")).toStartWith("Unknown flag --token");
  });
});

test.each([
  "edge status bogus",
  "edge run bogus",
  "edge init bogus --domain a.test",
  "edge token list bogus",
  "edge tunnel list -- bogus",
  "edge lb list bogus",
  "edge route tcp list bogus",
  "up bogus",
  "tunnel ready bogus",
  "tunnel diag bogus",
  "tunnel login bogus",
  "tunnel ingress validate bogus",
  "login bogus",
  "access ssh-config bogus",
  "service status bogus",
  "service uninstall bogus",
  "version bogus",
  "update bogus",
  "bundle bogus",
])("%s: arguments that nobody asks for are refused", (line) => {
  const [command] = /^[a-z -]+?(?= (-- )?bogus)/.exec(line) ?? [];
  expect(messageOf(line)).toBe(`"culvert ${command}" takes no arguments, but got "bogus"`);
});

describe("a flag that the command does not go by", () => {
  test.each([
    {
      line: "edge run --logfile x",
      want: '--logfile has no effect on "culvert edge run": it is a flag of "culvert tunnel"',
    },
    { line: "edge run --log-directory x", want: "--log-directory has no effect on" },
    { line: "edge run --pidfile x", want: "--pidfile has no effect on" },
    { line: "edge run --config nope.yml", want: "--config has no effect on" },
    { line: "edge run --cacert nope", want: "--cacert has no effect on" },
    { line: "edge run --url http://a", want: "--url has no effect on" },
    { line: "edge run --log-requests", want: "--log-requests has no effect on" },
    { line: "edge --logfile x run", want: "--logfile has no effect on" },
    { line: "up --token-file x", want: "Unknown flag --token-file" },
    { line: "up --metrics x", want: '--metrics has no effect on "culvert up"' },
    { line: "tail --no-tls-verify", want: '--no-tls-verify has no effect on "culvert tail"' },
    {
      line: "tail token web --event http",
      want: '--event has no effect on "culvert tail token": it is a flag of "culvert tail"',
    },
    { line: "tunnel list --loglevel silly", want: '--loglevel has no effect on "culvert tunnel list"' },
    { line: "tunnel route --url u ip show", want: '--url has no effect on "culvert tunnel route ip show"' },
    { line: "tunnel ready --url u", want: '--url has no effect on "culvert tunnel ready"' },
    { line: "tunnel ingress rule --edge a:1 http://a", want: '--edge has no effect on "culvert tunnel ingress rule"' },
    { line: "access ssh-config --fedramp", want: '--fedramp has no effect on "culvert access ssh-config"' },
    { line: "service install --cacert x", want: '--cacert has no effect on "culvert service install"' },
    { line: "version --metrics zzz", want: '--metrics has no effect on "culvert version"' },
    {
      line: "edge route tcp list --proxy-protocol v2",
      want: '--proxy-protocol has no effect on "culvert edge route tcp list"',
    },
    // Commands that cloudflared does not have owe it nothing.
    { line: "--config x edge run", want: '--config has no effect on "culvert edge run"' },
    { line: "--pidfile x service status", want: '--pidfile has no effect on "culvert service status"' },
    { line: "edge run --no-autoupdate", want: '--no-autoupdate has no effect on "culvert edge run"' },
    { line: "--logfile x up", want: '--logfile has no effect on "culvert up"' },
    // One of its own has that name and another type: the list of edges is no "is it the edge's service?".
    ...["install", "uninstall", "status", "restart", "run", "logs"].map((name) => ({
      line: `--edge edge.example.com:7844 service ${name}`,
      want: `--edge has no effect on "culvert service ${name}": in front of "${name}" it is a flag of "culvert tunnel"`,
    })),
    {
      line: "--hostname a.example up --hostname b.example",
      want: '--hostname has no effect on "culvert up": in front of "up" it is a flag of "culvert tunnel"',
    },
  ])("is refused: $line", ({ line, want }) => {
    expect(messageOf(line)).toStartWith(want);
  });

  test("is refused with the one that was meant, and without its value", () => {
    expect(messageOf("edge run --tag=s3cret")).not.toContain("s3cret");
    expect(messageOf("access forward --origincert x")).toContain('a flag of "culvert tunnel"');
    expect(messageOf("tail --label x")).toContain("did you mean --level?");
  });

  test("is taken in front of cloudflared's commands, as cloudflared takes it", () => {
    for (const line of [
      "--no-autoupdate tail web",
      "--loglevel debug tunnel list",
      "tunnel --loglevel debug list",
      "--logfile x tunnel --metrics y route ip show",
      "--no-autoupdate login",
      "--no-autoupdate update",
      "--no-autoupdate version",
      "--no-autoupdate service uninstall",
      "--origincert x access ssh-config",
      "access --fedramp ssh-config",
    ]) {
      expect([line, parse(line).kind]).toEqual([line, "run"]);
    }
  });

  test("is taken in front of every command where it is the container image's", () => {
    for (const line of ["edge run", "edge tunnel list", "up --hello-world", "doctor", "bundle", "service status"]) {
      expect([line, parse(`--no-autoupdate ${line}`).kind]).toEqual([line, "run"]);
    }
  });

  test("is one that it goes by wherever it stands, once it is under that name or as an alias", () => {
    expect(run("--config x service install").args).toEqual({ config: ["x"] });
    expect(run("--loglevel debug edge run --loglevel warn").args).toEqual({ loglevel: ["debug", "warn"] });
    expect(run("tunnel list --origincert x --api-url y --config z").args).toMatchObject({ config: ["z"] });
    expect(run("tunnel ready --metrics a:1").args).toEqual({ metrics: ["a:1"] });
    expect(run("tail --cacert x web").args).toEqual({ "ca-file": ["x"] });
    expect(run("--cacert x tail --ca-file y web").args).toEqual({ "ca-file": ["x", "y"] });
    expect(run("service status --edge").args).toEqual({ edge: ["true"] });
  });
});

describe("a value", () => {
  test("may stand behind = with anything in it", () => {
    expect(run("tunnel run --tag a=b=c --url=http://h/?x=--y").args).toEqual({
      tag: ["a=b=c"],
      url: ["http://h/?x=--y"],
    });
  });

  test("may be empty, or look like a flag", () => {
    expect(run("tunnel run --url= --retries -1").args).toEqual({ url: [""], retries: ["-1"] });
  });

  test("is collected in order when its flag is repeated at several levels", () => {
    expect(run("--edge a:1 tunnel --edge b:2 run --edge c:3").args).toEqual({ edge: ["a:1", "b:2", "c:3"] });
  });

  test("is asked for when there is none", () => {
    expect(messageOf("tunnel run --url")).toBe("Flag --url needs a value");
  });

  test.each([
    { line: "tunnel run --hello-world", on: true },
    { line: "tunnel run --hello-world=true", on: true },
    { line: "tunnel run --hello-world=false", on: false },
    { line: "tunnel run --hello-world=0", on: false },
    { line: "tunnel run --hello-world --hello-world=false", on: false },
  ])("of a bool stands behind = only: $line", ({ line, on }) => {
    const parsed = parse(line);
    if (parsed.kind !== "run") throw new Error(parsed.kind);
    const flags = parsed.path.flatMap((command) => command.flags ?? []);
    expect(new Values(flags, { args: parsed.args, env: {} }).bool("hello-world")).toBe(on);
  });

  test("of a bool is never the next word", () => {
    expect(run("tunnel run --hello-world web")).toMatchObject({ args: { "hello-world": ["true"] }, rest: ["web"] });
  });
});

test("true behind a bool is no argument where there are none, and false is one", () => {
  expect(run("tunnel vnet list --is-default true --output json")).toMatchObject({
    args: { "is-default": ["true"], output: ["json"] },
    rest: [],
  });
  expect(messageOf("tunnel vnet list --is-default false")).toContain('takes no arguments, but got "false"');
  expect(messageOf("tunnel vnet list true --is-default")).toContain('takes no arguments, but got "true"');
});

describe("positional arguments", () => {
  test.each([
    { line: "tunnel run web --url u", rest: ["web"] },
    { line: "tunnel run --url u -- --web run", rest: ["--web", "run"] },
    { line: "tunnel run -", rest: ["-"] },
    { line: "edge tunnel add web a.example *.b.example", rest: ["web", "a.example", "*.b.example"] },
    // A tunnel may have the name of a command.
    { line: "tunnel run web run", rest: ["web", "run"] },
  ])("$line", ({ line, rest }) => {
    expect(run(line).rest).toEqual(rest);
  });
});

describe("what is misspelt is named with the nearest known word", () => {
  test.each([
    { line: "tunel run", want: 'Unknown command "culvert tunel": did you mean "tunnel"?' },
    { line: "tunnel rnu", want: 'Unknown command "culvert tunnel rnu": did you mean "run"?' },
    { line: "edge tunnel lst", want: 'Unknown command "culvert edge tunnel lst": did you mean "list"?' },
    { line: "xyzzyxyzzy", want: 'Unknown command "culvert xyzzyxyzzy"' },
    { line: "tunnel run --tokn t", want: "Unknown flag --tokn: did you mean --token?" },
    { line: "tunnel --hello-wrold run", want: "Unknown flag --hello-wrold: did you mean --hello-world?" },
    { line: "up --prot 1", want: "Unknown flag --prot: did you mean --port?" },
    { line: "tunnel run --xyzzyxyzzyxyzzy", want: "Unknown flag --xyzzyxyzzyxyzzy" },
    { line: "tunnel run --version", want: "Unknown flag --version" },
  ])("$line", ({ line, want }) => {
    expect(messageOf(line)).toBe(want);
  });

  test("and never with the value behind =", () => {
    expect(messageOf("tunnel run --tokn=s3cret")).not.toContain("s3cret");
  });
});

describe("help", () => {
  test.each([
    { line: "", of: "culvert" },
    { line: "--help", of: "culvert" },
    { line: "help", of: "culvert" },
    { line: "help tunnel run", of: "culvert tunnel run" },
    { line: "edge", of: "culvert edge" },
    { line: "tunnel -h", of: "culvert tunnel" },
    { line: "tunnel help", of: "culvert tunnel" },
    { line: "tunnel help run", of: "culvert tunnel run" },
    { line: "tunnel run --url u --help", of: "culvert tunnel run" },
    { line: "edge", of: "culvert edge" },
  ])('"$line"', ({ line, of }) => {
    const parsed = parse(line);
    expect(parsed.kind).toBe("help");
    expect(parsed.kind === "help" ? commandName(parsed.path) : "").toBe(of);
  });

  test("is not found for a command that is none", () => {
    expect(messageOf("help tunel")).toBe('Unknown command "culvert tunel": did you mean "tunnel"?');
  });
});

test.each(["--version", "-v", "-V"])("%s asks for the version", (flag) => {
  expect(parse(flag)).toEqual({ kind: "version" });
});

test("no arguments make the reader throw", () => {
  const words: string[] = ["--", "-", "", "=", "--=", "-=x", "---", "__proto__", "--__proto__=1", "constructor"];
  const visit = (command: Command): void => {
    words.push(command.name, ...(command.flags ?? []).flatMap(({ name }) => [`--${name}`, `-${name}=1`]));
    for (const child of command.children ?? []) visit(child);
  };
  visit(ROOT);
  const word = fc.oneof(fc.constantFrom(...words), fc.string(), fc.string({ unit: "binary" }));
  fc.assert(
    fc.property(fc.array(word, { maxLength: 12 }), (argv) => {
      const parsed = parseArguments(ROOT, argv);
      if (parsed.kind !== "run") return;
      // What was taken is one of the flags known there, with a value for each time it was given.
      const known = new Set(parsed.path.flatMap((command) => command.flags ?? []).map((flag) => flag.name));
      for (const [name, values] of parsed.args) {
        expect(known.has(name)).toBe(true);
        expect(values.length).toBeGreaterThan(0);
      }
    }),
    { numRuns: 1000 },
  );
});

test("what stands behind the first argument of a command that runs another program is for that program", () => {
  expect(run("access curl --ar https://a -X POST --help --ca-file x -- --ar")).toEqual({
    command: "culvert access curl",
    args: { "allow-request": ["true"] },
    rest: ["https://a", "-X", "POST", "--help", "--ca-file", "x", "--", "--ar"],
  });
  expect(messageOf("access curl --silent https://a")).toStartWith("Unknown flag --silent");
});
