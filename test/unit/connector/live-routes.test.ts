import { describe, expect, test } from "bun:test";
import { LiveConfiguration } from "../../../src/connector/live-configuration.ts";
import { LiveRoutes } from "../../../src/connector/live-routes.ts";
import { RoutesError } from "../../../src/connector/routes.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { silentLogger } from "../../../src/core/log.ts";
import { type IngressRules, parseIngress } from "../../../src/ingress/rules.ts";
import type { OriginService } from "../../../src/origin/port.ts";
import { makeTestCertificate } from "../../support/certificate.ts";

function rulesOf(...ingress: readonly unknown[]): IngressRules {
  const { rules, issues } = parseIngress({ ingress });
  if (rules === undefined) throw new Error(issues.map((issue) => issue.message).join("; "));
  return rules;
}

const LAST = { service: "http_status:404" };
const to = (port: number, more: object = {}) => ({
  hostname: "a.example",
  service: `http://localhost:${port}`,
  ...more,
});

function serviceOf(routes: LiveRoutes, host: string): OriginService {
  const route = routes.route(host, "/");
  if ("kind" in route) throw new Error(route.kind);
  return route.service;
}

function live(rules: IngressRules, files: Map<string, string> = new Map()): LiveRoutes {
  return new LiveRoutes(rules, {
    clock: systemClock,
    tags: [],
    readFile: (path) => {
      const text = files.get(path);
      if (text === undefined) throw new Error("no such file");
      return text;
    },
  });
}

async function problemsOf(change: Promise<void>): Promise<readonly unknown[]> {
  const error = await change.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof RoutesError)) throw new Error("not refused");
  return error.problems;
}

describe("live routes", () => {
  test("go to the new rules from one moment to the next", async () => {
    const routes = live(rulesOf(to(1), LAST));
    await routes.start();
    expect(serviceOf(routes, "a.example").label).toBe("http://localhost:1");
    await routes.replace(rulesOf({ hostname: "b.example", service: "http://localhost:2" }, LAST));
    expect(serviceOf(routes, "b.example").label).toBe("http://localhost:2");
    expect(serviceOf(routes, "a.example").label).toBe("http_status:404");
    expect(routes.rules.rules).toHaveLength(2);
    await routes.close();
  });

  test("keep the service of what has not changed, wherever it stands now", async () => {
    const routes = live(rulesOf(to(1), LAST));
    const kept = serviceOf(routes, "a.example");
    await routes.replace(rulesOf({ hostname: "new.example", service: "http://localhost:2" }, to(1), LAST));
    expect(serviceOf(routes, "a.example")).toBe(kept);
    expect(routes.route("a.example", "/")).toMatchObject({ ruleIndex: 1 });
    await routes.replace(rulesOf(to(1, { originRequest: { keepAliveTimeout: "5s" } }), LAST));
    expect(serviceOf(routes, "a.example")).not.toBe(kept);
    await routes.close();
  });

  test("give rules that say the same a service each, and keep both", async () => {
    const twice = rulesOf(to(1), to(1, { hostname: "b.example" }), LAST);
    const routes = live(twice);
    const before = [serviceOf(routes, "a.example"), serviceOf(routes, "b.example")];
    expect(before[0]).not.toBe(before[1]);
    await routes.replace(twice);
    expect([serviceOf(routes, "a.example"), serviceOf(routes, "b.example")]).toEqual(before);
    await routes.close();
  });

  test("make a service anew when a file it is made from has changed", async () => {
    const rules = rulesOf({ service: "https://localhost:1", originRequest: { caPool: "/ca.pem" } });
    const [one, two] = [await makeTestCertificate(["one"]), await makeTestCertificate(["two"])];
    const files = new Map([["/ca.pem", one.cert]]);
    const routes = live(rules, files);
    const before = serviceOf(routes, "a.example");
    await routes.replace(rules);
    expect(serviceOf(routes, "a.example")).toBe(before);
    files.set("/ca.pem", two.cert);
    await routes.replace(rules);
    expect(serviceOf(routes, "a.example")).not.toBe(before);
    await routes.close();
  });

  test("stay as they are when a rule cannot be served, and every such rule is named", async () => {
    const routes = live(rulesOf(to(1), LAST));
    const kept = serviceOf(routes, "a.example");
    const wrong = { originRequest: { caPool: "/none.pem" } };
    const next = rulesOf(
      to(1, wrong),
      to(2),
      { hostname: "c.example", service: "https://localhost:3", ...wrong },
      LAST,
    );
    const problems = await problemsOf(routes.replace(next));
    expect(problems).toMatchObject([{ ruleIndex: 0 }, { ruleIndex: 2 }]);
    expect(serviceOf(routes, "a.example")).toBe(kept);
    await routes.close();
  });
});

describe("live configuration", () => {
  function configuration() {
    const counted: string[] = [];
    const routes = live(rulesOf(LAST));
    const made = new LiveConfiguration(routes, {
      log: silentLogger,
      observer: { configured: (result, version) => void counted.push(`${result} ${version ?? ""}`.trim()) },
    });
    return { made, routes, counted };
  }
  const json = (status: number): string => JSON.stringify({ ingress: [{ service: `http_status:${status}` }] });

  test("changes come one after the other, in the order they were asked for", async () => {
    const { made, routes, counted } = configuration();
    const answers = await Promise.all(
      [3, 5, 4].map((version) => made.applyRemote({ version, config: json(200 + version) })),
    );
    expect(answers.map(({ latestAppliedVersion }) => latestAppliedVersion)).toEqual([3, 5, 5]);
    expect(serviceOf(routes, "x").label).toBe("http_status:205");
    expect(counted).toEqual(["applied 3", "applied 5"]);
  });

  test("an edge's rules go before this machine's, which are told to it only while they are in force", async () => {
    const { made, routes } = configuration();
    let changes = 0;
    const forget = made.onLocalChange(() => {
      changes += 1;
    });
    expect(await made.applyLocal(rulesOf({ service: "http_status:201" }))).toEqual({ kind: "applied" });
    expect(changes).toBe(1);
    expect(made.describeLocal()).toContain("http_status:201");
    await made.applyRemote({ version: 0, config: json(202) });
    expect(made.describeLocal()).toBeUndefined();
    expect(await made.applyLocal(rulesOf({ service: "http_status:203" }))).toEqual({ kind: "remote" });
    expect(serviceOf(routes, "x").label).toBe("http_status:202");
    expect(changes).toBe(1);
    forget();
  });

  test.each([
    { config: "{", error: /no JSON/ },
    { config: "[]", error: /object/ },
    { config: "null", error: /object/ },
    { config: '{"ingress":[{"service":"nonsense"}]}', error: /^ingress\[0\]\.service: .*"nonsense"/ },
    { config: '{"ingress":[{"service":"http_status:404"}],"originRequest":{"tlsTimeout":1.5}}', error: /tlsTimeout/ },
  ])("refuses $config", async ({ config, error }) => {
    const { made, counted } = configuration();
    const answer = await made.applyRemote({ version: 1, config });
    expect(answer.latestAppliedVersion).toBe(-1);
    expect(answer.error).toMatch(error);
    expect(counted).toEqual(["refused"]);
  });

  test("no more changes wait than there is room for", async () => {
    const { made } = configuration();
    const many = Array.from({ length: 100 }, (_, version) => made.applyRemote({ version, config: json(200) }));
    const errors = (await Promise.all(many)).map(({ error }) => error);
    expect(errors.filter((error) => error === "")).toHaveLength(32);
    expect(errors.at(-1)).toContain("Too many");
    expect((await made.applyRemote({ version: 100, config: json(200) })).error).toBe("");
  });
});
