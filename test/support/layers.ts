/** The folders of src, lowest first, and what each must not know: the reason printed for an import that points up. */
export const LAYERS: readonly { readonly name: string; readonly why: string }[] = [
  { name: "core", why: "core has no domain: anything may use it because it uses nothing of ours" },
  { name: "wire", why: "wire is bytes in, values out: a codec that knows its users cannot be tested or fuzzed alone" },
  { name: "net", why: "net moves bytes: it must serve every protocol above it without knowing one" },
  {
    name: "ingress",
    why: "ingress decides from values: rules must be explainable without a socket or a running tunnel",
  },
  { name: "origin", why: "an origin service answers one request: which rule or tunnel sent it is not its business" },
  {
    name: "transport",
    why: "a transport carries streams: what is in them, and who supervises it, belongs to its users",
  },
  {
    name: "proxy",
    why: "the proxy joins one stream to one origin: sessions and their registration are not in its sight",
  },
  {
    name: "control",
    why: "control speaks registration on a byte stream it was given: it neither dials nor supervises",
  },
  { name: "supervisor", why: "the supervisor plans connections through ports: it must not know which role it runs in" },
  {
    name: "ops",
    why: "ops observes: nothing below a composition root may depend on, or be started by, what watches it",
  },
  { name: "service", why: "service renders and installs units: it must work where no tunnel was ever configured" },
  {
    name: "api-client",
    why: "the API's client serves any command against any server: what runs here or at an edge is not its business",
  },
  { name: "update", why: "an update replaces a file: it must work where nothing was configured and nothing runs" },
  {
    name: "bundle",
    why: "a bundle or a download hands out what was released: it must work where nothing of it is installed or runs",
  },
  { name: "access", why: "the access client runs on a visitor's machine: it has neither a connector nor an edge" },
  { name: "edge", why: "the edge is built from options of its own: files, flags and environment are mapped by cli" },
  {
    name: "connector",
    why: "the connector defines its own options: cli maps config to them, so that tests need no files",
  },
  { name: "diag", why: "diag reads what a connector of this machine tells: it runs beside one, not in it" },
  {
    name: "doctor",
    why: "the doctor looks at a tunnel from outside, with options of its own: what runs must not know that it is looked at",
  },
  { name: "config", why: "config parses sources to values: commands read it, it does not run them" },
  { name: "cli", why: "a command returns an exit code: only main.ts ends the process" },
  { name: "main", why: "" },
];

/** Folders inside src/edge, lowest first. */
export const EDGE_LAYERS: readonly { readonly name: string; readonly why: string }[] = [
  { name: "policy", why: "a policy is a pure decision: who may pass must be testable as a table" },
  { name: "store", why: "a store keeps values: a new backend must not have to know the traffic" },
  { name: "dispatcher", why: "the dispatcher finds a connection for a hostname: who asks does not matter to it" },
  { name: "tls", why: "certificates are found by name: what is asked over them does not matter to whoever keeps them" },
  { name: "listener", why: "a listener serves one visitor: administration must not hang on public traffic" },
  { name: "control", why: "control tells commands on this machine who is connected: the edge must serve without it" },
  { name: "quick", why: "quick tunnels are tunnels that end by themselves: nothing may depend on who asked for them" },
  { name: "site", why: "the edge's own site is one more destination of visitors: the edge must serve without it" },
  { name: "pages", why: "what every page looks like: who shows one does not matter to it" },
  { name: "api", why: "the API is one user of the edge among others: the edge must run without it" },
  { name: "inspect", why: "inspection watches what goes by: the edge must serve without it" },
  { name: "dashboard", why: "the dashboard is one user of the API: whatever it does others can do without it" },
];

/** Sides of the same height that may not see each other. */
export const STRANGERS: readonly { readonly a: string; readonly b: string; readonly why: string }[] = [
  {
    a: "connector",
    b: "edge",
    why: "connector and edge meet only in wire, transport, control, proxy and ops: each must work with Cloudflare's other half",
  },
];

/** Paths under src that are pure: no IO, no time, no chance; their values come only from modules that are pure too. */
export const PURE: readonly string[] = [
  ...["wire/", "ingress/", "edge/policy/", "supervisor/plan.ts", "supervisor/addresses.ts", "supervisor/transports.ts"],
  ...["supervisor/model.ts", "supervisor/timing.ts"],
  ...["connector/discovery/regions.ts", "connector/discovery/service.ts"],
  "edge/dispatcher/balancers/steering.ts",
];
export const WHY_PURE =
  "pure modules are tested as tables, fuzzed, and run on every runtime: they get time and bytes handed in";

/** Globals that a pure module must not touch. */
export const IMPURE_GLOBALS: ReadonlySet<string> = new Set([
  ...["setTimeout", "setInterval", "setImmediate", "queueMicrotask", "Date", "performance"],
  ...["Buffer", "process", "Bun", "Deno", "fetch", "console"],
]);

/**
 * What one pure file may use all the same. Bytes become text thousands of times a second: `Buffer` does it six times as fast as
 * what every runtime has besides, its result depends on nothing else, and Node, Deno and Bun have it.
 */
export const PURE_USES: ReadonlyMap<string, string> = new Map([["wire/latin1.ts", "Buffer"]]);

/** Folders that may use Bun's own API. */
export const BUN_FOLDERS: readonly string[] = ["net", "transport"];
export const WHY_BUN = "Bun.* stays behind a port in net or transport, where it pays: all else runs on Deno too";

/** The only file that ends the process. */
export const EXIT_FILE = "main.ts";
export const WHY_EXIT = "whoever ends the process skips everybody else's clean-up: only main.ts knows when all is down";

export const LONG_FILE_LINES = 500;
export const MAX_FILE_LINES = 800;
