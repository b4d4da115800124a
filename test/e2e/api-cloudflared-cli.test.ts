import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse as parseYaml } from "yaml";
import { parseCredentials } from "../../src/wire/credentials.ts";
import { parseToken } from "../../src/wire/token.ts";
import { CULVERT, cloudflaredArgv, startConnector } from "../support/lab.ts";
import { CLOUDFLARED, type ManagedEdge, NO_CLOUDFLARED, type Ran, startManagedEdge } from "../support/managed-edge.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startProcess } from "../support/processes.ts";

/*
 * The commands that manage tunnels, by the unmodified cloudflared and by ours, against an edge of their own each: the
 * same steps must give the same standard output and exit code, but for the program's name, ids and times. What ours
 * does otherwise on purpose is in DIFFERENT below; words of errors differ throughout.
 */
type Program = "cloudflared" | "culvert";
const PROGRAMS: readonly Program[] = ["cloudflared", "culvert"];

/** Steps of `tunnel`, in order. `{web}` = id of the tunnel called web. */
const STEPS: readonly (readonly string[])[] = [
  ["list"],
  ["create", "web"],
  ["create", "web"],
  ["create", "--output", "json", "api"],
  ["create", "--output", "yaml", "yaml"],
  ["create"],
  ["list"],
  ["list", "--output", "json"],
  ["list", "--output", "yaml"],
  ["list", "--name", "web"],
  ["list", "--name", "nothing"],
  ["list", "--name-prefix", "a"],
  ["list", "--exclude-name-prefix", "a"],
  ["list", "--id", "{web}"],
  ["list", "--id", "not-an-id"],
  ["list", "--sort-by", "createdAt", "--invert-sort"],
  ["info", "web"],
  ["info", "--output", "json", "web"],
  ["info", "--output", "yaml", "web"],
  ["info", "nothing"],
  ["token", "nothing"],
  ["route", "dns", "web", "App.Example.test"],
  ["route", "dns", "web", "app.example.test"],
  ["route", "dns", "api", "app.example.test"],
  ["route", "dns", "--overwrite-dns", "api", "app.example.test"],
  ["route", "dns", "web", "*.wild.example.test"],
  ["route", "dns", "web", "http://no"],
  ["route", "dns", "nothing", "b.example.test"],
  ["route", "dns", "web"],
  ["route", "lb", "web", "lb.example.test", "one"],
  ["route", "lb", "web", "lb.example.test", "one"],
  ["route", "lb", "api", "lb.example.test", "one"],
  ["route", "lb", "api", "lb.example.test", "two"],
  ["route", "lb", "api", "lb2.example.test", "two"],
  ["route", "lb", "web", "lb3.example.test", "two"],
  ["route", "lb", "web", "app.example.test", "two"],
  ["route", "ip", "show"],
  ["route", "ip", "add", "10.1.2.3/16", "web", "second floor"],
  ["route", "ip", "add", "fd00::/64", "web"],
  ["route", "ip", "add", "10.1.2.3/99", "web"],
  ["route", "ip", "add", "10.1.0.0/16", "api"],
  ["route", "ip", "show"],
  ["route", "ip", "list", "--output", "json"],
  ["route", "ip", "show", "--filter-comment-is", "second floor"],
  ["route", "ip", "show", "--filter-tunnel-id", "{api}"],
  ["route", "ip", "get", "10.1.9.9"],
  ["route", "ip", "get", "fd00::9"],
  ["route", "ip", "get", "11.1.9.9"],
  ["route", "ip", "get", "no"],
  ["vnet", "list"],
  ["vnet", "add", "staging", "some words"],
  ["vnet", "add", "staging"],
  ["vnet", "add", "--default", "prod"],
  ["vnet", "list"],
  ["vnet", "list", "--output", "json"],
  ["vnet", "list", "--output", "yaml"],
  ["vnet", "list", "--name", "prod"],
  ["vnet", "list", "--is-default", "true"],
  ["vnet", "update", "--name", "test", "--comment", "more words", "staging"],
  ["route", "ip", "add", "--vnet", "test", "10.1.0.0/16", "web"],
  ["route", "ip", "delete", "--vnet", "default", "10.1.2.3/16"],
  ["route", "ip", "delete", "10.99.0.0/16"],
  ["vnet", "delete", "test"],
  ["vnet", "delete", "--force", "test"],
  ["vnet", "delete", "prod"],
  ["vnet", "delete", "nothing"],
  ["cleanup", "web"],
  ["cleanup", "--connector-id", "no", "web"],
  ["cleanup", "nothing"],
  ["cleanup"],
  ["delete"],
  ["delete", "nothing"],
  ["delete", "web"],
  ["delete", "web"],
  ["list", "--show-deleted", "--output", "json"],
  ["list"],
];

/** What culvert does otherwise, and why. */
const DIFFERENT: readonly {
  readonly why: string;
  readonly args: readonly string[];
  readonly cloudflared: readonly [code: number, says: RegExp];
  readonly culvert: readonly [code: number, says: RegExp];
}[] = [
  {
    why: "an order that there is not is refused",
    args: ["list", "--sort-by", "bogus"],
    cloudflared: [0, /^ID .*ERR bogus is not a valid sort field/ms],
    culvert: [1, /--sort-by "bogus" must be one of/],
  },
  {
    why: "--when is sent",
    args: ["list", "--when", "2020-01-01T00:00:00Z"],
    cloudflared: [0, /^ID /m],
    culvert: [0, /No tunnels were found/],
  },
  {
    why: "the filter for subsets asks for subsets",
    args: ["route", "ip", "show", "--filter-network-is-subset-of", "10.0.0.0/8"],
    cloudflared: [0, /No routes were found/],
    culvert: [0, / 10\.1\.0\.0\/16 /],
  },
  {
    why: "a cleanup that failed is a failure",
    args: ["cleanup", crypto.randomUUID()],
    cloudflared: [0, /ERR Error cleaning up connections/],
    culvert: [1, /Cannot clean up/],
  },
  {
    why: "an empty list is a list",
    args: ["list", "--name", "nothing", "--output", "json"],
    cloudflared: [0, /^null\n$/],
    culvert: [0, /^\[\]\n$/],
  },
  {
    why: "networks are text in YAML, too, instead of the bytes of a mask",
    args: ["route", "ip", "show", "--output", "yaml"],
    cloudflared: [0, /mask:/],
    culvert: [0, /network: 10\.1\.0\.0\/16$/m],
  },
];

interface Done extends Ran {
  readonly step: string;
}

/** Runs the table. Ids and times become the same words for both programs. */
async function runSteps(edge: ManagedEdge, program: Program): Promise<Done[]> {
  const ids = new Map<string, string>();
  const done: Done[] = [];
  for (const step of STEPS) {
    const args = step.map((word) => word.replace(/^\{(\w+)\}$/, (_, name: string) => idOf(ids, name)));
    const ran = await edge[program]("tunnel", ...args);
    const created = /Created tunnel (\S+) with id (\S+)/.exec(ran.stdout);
    if (created !== null) ids.set(created[1] ?? "", created[2] ?? "");
    if (step[0] === "create" && step[1] === "--output" && ran.code === 0) {
      const made = parseYaml(ran.stdout) as Named & { readonly tunnel?: Named };
      ids.set((made.tunnel ?? made).name, (made.tunnel ?? made).id);
    }
    done.push({ ...ran, step: step.join(" ") });
  }
  return done;
}

interface Named {
  readonly id: string;
  readonly name: string;
}

function idOf(ids: ReadonlyMap<string, string>, name: string): string {
  const id = ids.get(name);
  if (id === undefined) throw new Error(`There is no ${name} yet`);
  return id;
}

/** What may differ from run to run, and from program to program. JSON and YAML are compared as values. */
function comparable({ step, code, stdout }: Done, home: string) {
  const plain = stdout
    .replaceAll(home, "HOME")
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "ID")
    .replace(/(?!0001)\d{4}-\d\d-\d\d[T ][\d:.]+(Z| \+0000 UTC)/g, "TIME")
    .replace(/eyJ[\w+/=]+/g, "TOKEN")
    .replace(/ip add --?help/, "ip add --help")
    .replaceAll(/\b(cloudflared|culvert)\b/g, "PROGRAM")
    .replaceAll("HOME/.PROGRAM", "HOME/.cloudflared");
  return { step, code, stdout: /--output/.test(step) && code === 0 ? parseYaml(plain) : plain };
}

describe.skipIf(NO_CLOUDFLARED !== undefined)("cloudflared against our API, and culvert beside it", () => {
  const stack = new AsyncDisposableStack();
  const runs = new Map<Program, { readonly done: Done[]; readonly home: string }>();

  beforeAll(async () => {
    await Promise.all(
      PROGRAMS.map(async (program) => {
        const edge = stack.use(await startManagedEdge());
        runs.set(program, { done: await runSteps(edge, program), home: edge.home });
      }),
    );
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  const nth = (program: Program, i: number): ReturnType<typeof comparable> => {
    const run = runs.get(program);
    const done = run?.done[i];
    if (run === undefined || done === undefined) throw new Error(`${program} has not run step ${i}`);
    return comparable(done, run.home);
  };

  test.each(STEPS.map((step, i) => ({ i, step: step.join(" ") })))("$i: tunnel $step", ({ i }) => {
    expect(nth("culvert", i)).toEqual(nth("cloudflared", i));
  });

  const said = (program: Program, step: string): Done[] =>
    (runs.get(program)?.done ?? []).filter((done) => done.step === step);

  test.each(PROGRAMS.map((program) => ({ program })))("$program says what became of hostnames", ({ program }) => {
    const notes = (runs.get(program)?.done ?? [])
      .filter(({ step, code }) => /^route (dns|lb)/.test(step) && code === 0)
      .map(({ stderr }) => stderr.replace(/^\S+ INF /, "").replace(/ tunnelID=.*/s, ""));
    expect(notes).toEqual([
      "Added CNAME app.example.test which will route to this tunnel",
      "app.example.test is already configured to route to your tunnel",
      "app.example.test updated to route to your tunnel",
      "Added CNAME *.wild.example.test which will route to this tunnel",
      "Created load balancer lb.example.test and added a new pool one with this tunnel as an origin",
      "Load balancer lb.example.test already uses pool one which has this tunnel as an origin",
      "Added this tunnel as an origin in pool one which is already used by load balancer lb.example.test",
      "Added new pool two with this tunnel as an origin to load balancer lb.example.test",
      "Created load balancer lb2.example.test with an existing pool two which already has this tunnel as an origin",
      "Created load balancer lb3.example.test with an existing pool two which was updated to use this tunnel as an origin",
    ]);
    expect(said(program, "route dns api app.example.test")[0]?.stderr).toContain("leads elsewhere already");
    const [, taken] = said(program, "create web");
    expect(taken?.stderr).toMatch(/tunnel with (this )?name/);
  });

  test.each(PROGRAMS.map((program) => ({ program })))(
    "$program takes the credentials file away",
    async ({ program }) => {
      const run = runs.get(program);
      const [created] = said(program, "create web");
      const [path = ""] = /\/\S+\.json/.exec(created?.stdout ?? "") ?? [];
      expect(path).toStartWith(join(run?.home ?? "", ".cloudflared"));
      expect(existsSync(path)).toBe(false);
    },
  );
});

describe.skipIf(NO_CLOUDFLARED !== undefined)("what culvert does otherwise on purpose", () => {
  const stack = new AsyncDisposableStack();
  let edge: ManagedEdge;
  beforeAll(async () => {
    edge = stack.use(await startManagedEdge());
    for (const step of [
      ["create", "web"],
      ["create", "api"],
      ["route", "ip", "add", "10.1.0.0/16", "web"],
    ]) {
      expect(await edge.cloudflared("tunnel", ...step)).toMatchObject({ code: 0 });
    }
  }, 20_000);
  afterAll(() => stack.disposeAsync());

  test.each([...DIFFERENT])("$why", async ({ args, ...expected }) => {
    for (const program of PROGRAMS) {
      const { code, stdout, stderr } = await edge[program]("tunnel", ...args);
      expect([code, stdout + stderr]).toEqual([expected[program][0], expect.stringMatching(expected[program][1])]);
    }
  });
});

describe.skipIf(NO_CLOUDFLARED !== undefined)("a live connector", () => {
  for (const program of PROGRAMS) {
    test(`is shown, cleaned up and thrown out by ${program}`, async () => {
      await using edge = await startManagedEdge();
      const run = (...args: readonly string[]): Promise<Ran> => edge[program]("tunnel", ...args);
      const { stdout } = await run("create", "web");
      const path = /\/\S+\.json/.exec(stdout)?.[0] ?? "";
      const credentials = parseCredentials(readFileSync(path, "utf8"));
      const parsed = parseToken((await run("token", "web")).stdout.trim());
      if (!credentials.ok || !parsed.ok) throw new Error("The credentials cannot be read");
      expect(parsed.value.tunnelSecret).toEqual(credentials.value.tunnelSecret);
      // cloudflared writes the token anew, without where the edge is, which ours needs.
      const token = (await edge.culvert("tunnel", "token", "web")).stdout.trim();
      const { tunnelPort, caPath } = edge.edge;
      const url = "http://127.0.0.1:1";
      await using connector = startConnector(CULVERT, {
        ...{ token, tunnelPort, caPath, url },
        flags: ["--ha-connections", "2"],
      });
      await using theirs = startProcess(cloudflaredArgv(CLOUDFLARED, { token, tunnelPort, caPath, url }, "http2"), {
        env: { ...edge.env },
      });
      const connections = async (): Promise<Connector[]> =>
        (JSON.parse((await run("info", "--output", "json", "web")).stdout) as { conns: Connector[] }).conns;
      const both = async (): Promise<Connector[] | undefined> => {
        const shown = await connections();
        return shown.length === 2 && shown.flatMap(({ conns }) => conns).length === 3 ? shown : undefined;
      };
      const shown = await pollUntil(both, { what: "both connectors are shown", deadlineMs: 15_000 });
      expect(new Set(shown.map(({ version }) => version)).size).toBe(2);
      for (const line of [await run("list"), await run("info", "web")]) expect(line.stdout).toMatch(/[123]xLAB/);

      // Ours is cleaned up, and comes back at once with new connections.
      const ours = shown.find(({ conns }) => conns.length === 2);
      expect((await run("cleanup", "--connector-id", ours?.id ?? "", "web")).code).toBe(0);
      const came = await pollUntil(
        async () => {
          const again = (await both())?.find(({ id }) => id === ours?.id)?.conns.map(({ id }) => id);
          return again?.every((id) => ours?.conns.every((before) => before.id !== id)) === true;
        },
        { what: "it comes back", deadlineMs: 20_000 },
      );
      expect(came).toBe(true);

      const refused = await run("delete", "web");
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("active connections")]);
      expect((await run("route", "dns", "web", "app.example.test")).code).toBe(0);
      expect(await run("delete", "-f", "web")).toMatchObject({ code: 0 });
      expect((await run("list")).stdout).toContain("No tunnels were found");
      // Those that come again are told that there is nothing for them, in cloudflared's own time.
      for (const gone of [connector, theirs]) {
        await gone.errorLine(/Unauthorized/, 30_000);
      }
    }, 90_000);
  }
});

interface Connector {
  readonly id: string;
  readonly version: string;
  readonly conns: readonly { readonly id: string }[];
}
