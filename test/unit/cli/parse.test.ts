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
])("%s: arguments that nobody asks for are refused", (line) => {
  const [command] = /^[a-z ]+?(?= (-- )?bogus)/.exec(line) ?? [];
  expect(messageOf(line)).toBe(`"culvert ${command}" takes no arguments, but got "bogus"`);
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
