import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { ROOT as COMMANDS } from "../../src/cli/commands.ts";
import { parseArguments } from "../../src/cli/parse.ts";
import { parseIngress } from "../../src/ingress/rules.ts";
import { missingCommand } from "../support/release-tests.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const CHART = join(ROOT, "packaging", "helm", "culvert");
const HELM = process.env["HELM_BIN"] ?? "helm";
/** helm's own idea of a cluster, when it was built without release flags, is too old for anything. */
const CLUSTER = ["--kube-version", "1.31.0"];

/** What a parser gives: looked at here, and used nowhere. */
type Tree = ReturnType<typeof JSON.parse>;

function readAll(text: string): readonly Tree[] {
  return parseAllDocuments(text).map((document) => {
    expect(document.errors).toEqual([]);
    return document.toJS({ maxAliasCount: 50 });
  });
}

function ofKind(all: readonly Tree[], kind: string): Tree {
  return all.find((each) => each?.kind === kind);
}

/** What both the example and the chart promise. */
function expectConnectors(all: readonly Tree[]): void {
  const { spec } = ofKind(all, "Deployment");
  const pod = spec.template.spec;
  const [container] = pod.containers;
  expect(spec.replicas).toBeGreaterThanOrEqual(2);
  expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
  // The command line is one that our own program takes.
  const parsed = parseArguments(COMMANDS, ["--no-autoupdate", ...container.args]);
  expect(parsed.kind).toBe("run");
  expect(container.readinessProbe.httpGet).toEqual({ path: "/ready", port: "metrics" });
  expect(container.args).toContain(`--metrics=0.0.0.0:${container.ports[0].containerPort}`);
  expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65_532 });
  expect(container.securityContext).toMatchObject({ readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } });
  // Kubernetes kills what is not gone by then.
  const grace = container.args.find((word: string) => word.startsWith("--grace-period="));
  expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(Number(/=(\d+)s$/.exec(grace)?.[1]));
  const terms = pod.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution;
  expect(terms[0].podAffinityTerm).toMatchObject({
    topologyKey: "topology.kubernetes.io/zone",
    labelSelector: { matchLabels: spec.selector.matchLabels },
  });
  const budget = ofKind(all, "PodDisruptionBudget").spec;
  expect(budget).toMatchObject({ maxUnavailable: 1, selector: { matchLabels: spec.selector.matchLabels } });
  // The token comes from a secret, as a file, and stands nowhere else.
  const volume = pod.volumes.find((each: Tree) => each.name === "token");
  const secret = ofKind(all, "Secret");
  expect(volume.secret.secretName).toBe(secret.metadata.name);
  expect(container.volumeMounts).toContainEqual({ name: "token", mountPath: "/etc/culvert/token", readOnly: true });
  const config = ofKind(all, "ConfigMap");
  expect(pod.volumes).toContainEqual({ name: "config", configMap: { name: config.metadata.name } });
  const rules = parseIngress(parse(config.data["config.yml"]), { locate: () => undefined });
  expect(rules.issues).toEqual([]);
}

test("the example for Kubernetes is whole, and its command line and rules are ours", () => {
  expectConnectors(readAll(readFileSync(join(ROOT, "packaging", "kubernetes", "culvert.yaml"), "utf8")));
});

test("chart, example and program have one version", () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  const chart = parse(readFileSync(join(CHART, "Chart.yaml"), "utf8"));
  expect({ version: chart.version, app: chart.appVersion }).toEqual({ version, app: version });
  const example = readFileSync(join(ROOT, "packaging", "kubernetes", "culvert.yaml"), "utf8");
  expect(example).toContain(`/culvert:${version}\n`);
});

const missing = process.env["HELM_BIN"] === undefined ? missingCommand("helm") : undefined;
(missing === undefined ? describe : describe.skip)(`the chart${missing === undefined ? "" : ` (${missing})`}`, () => {
  const helm = (...args: string[]) => spawnSync(HELM, args, { encoding: "utf8" });
  const render = (...args: string[]) => helm("template", "web", CHART, ...CLUSTER, ...args);
  const RULES = ["--set-json", 'config={"ingress":[{"service":"http://web:80"}]}'];

  test("passes helm lint", () => {
    const { status, stdout } = helm("lint", "--strict", CHART, "--set", "token=TOKEN");
    expect({ status, stdout: stdout.includes("0 chart(s) failed") }).toEqual({ status: 0, stdout: true });
  });

  test("makes what the example has", () => {
    const { stdout } = render("--set", "token=TOKEN", ...RULES);
    const all = readAll(stdout);
    expectConnectors(all);
    expect(Buffer.from(ofKind(all, "Secret").data.token, "base64").toString()).toBe("TOKEN");
    expect(stdout).not.toContain("TOKEN");
  });

  test("uses a secret that is there, a digest, edges, an affinity of one's own, and a service for metrics", () => {
    const digest = `sha256:${"0".repeat(64)}`;
    const { stdout } = render(
      ...["--set", "existingSecret.name=mine,existingSecret.key=t", "--set", `image.digest=${digest}`],
      ...["--set", "edges={a.example:7844,b.example:7844}", "--set-json", 'affinity={"nodeAffinity":{}}'],
      ...["--set", "metrics.service=true,podDisruptionBudget.enabled=false,url=http://web:80"],
    );
    const all = readAll(stdout);
    const pod = ofKind(all, "Deployment").spec.template.spec;
    expect(pod.volumes[0].secret).toMatchObject({ secretName: "mine", items: [{ key: "t", path: "token" }] });
    expect(pod.containers[0].image).toBe(`registry.example.com/culvert@${digest}`);
    expect(pod.containers[0].args).toContain("--edge=b.example:7844");
    expect(parseArguments(COMMANDS, pod.containers[0].args).kind).toBe("run");
    expect(pod.affinity).toEqual({ nodeAffinity: {} });
    expect(ofKind(all, "Service").spec.ports[0].port).toBe(20_241);
    for (const kind of ["Secret", "ConfigMap", "PodDisruptionBudget"]) expect(ofKind(all, kind)).toBeUndefined();
  });

  test.each([
    [[], "Give the tunnel's token"],
    [["--set", "token=x", "--set", "replicas=two"], "replicas"],
    [["--set", "token=x", "--set", "replica=2"], "replica"],
    [["--set", "token=x", "--set", "image.digest=latest"], "digest"],
  ])("refuses what is wrong: %p", (args, says) => {
    const { status, stderr } = render(...args);
    expect(status).not.toBe(0);
    expect(stderr).toContain(says);
  });
});
