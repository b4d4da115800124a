import type { RunConfig } from "../config/run-config.ts";
import { LiveLog } from "../connector/management/live-log.ts";
import { type Clock, systemRandom } from "../core/clock.ts";
import { type Console, LOST_CONSOLE_LINES } from "../core/console-output.ts";
import { createLogger, type Logger, type LogLevel } from "../core/log.ts";
import { batchLines } from "../core/log-batch.ts";
import { LogFile } from "../core/log-file.ts";
import { foldingLogger } from "../core/log-fold.ts";
import type { LostLines } from "../core/log-losses.ts";
import { createScrubber, redactingLogger } from "../core/log-redact.ts";
import { PROXY_VARIABLES, parseProxyUrl } from "../net/proxy-settings.ts";
import type { EndedRequest } from "../proxy/observer.ts";
import { ACCESS_MESSAGE, accessFields, putAccess } from "../proxy/request-log.ts";

/** The logs of one run: standard error, a file if somebody wants one, and whoever follows through the tunnel. */
export interface RunLogs {
  readonly log: Logger;
  /** Of connections to the edge, with a level of its own. */
  readonly transportLog: Logger;
  /** Writes the one line of a request; undefined = nobody wants them. */
  readonly requestLog: ((ended: EndedRequest) => void) | undefined;
  readonly live: LiveLog;
  /** Changes the level of `log`. */
  setLevel(level: LogLevel): void;
  lostLines(): LostLines;
  /** Writes repetitions that are still gathered, so that what is logged next is behind them. */
  flush(): void;
  /** Writes what is left. */
  close(): Promise<void>;
}

/** Rejects with `config.invalid` when the file cannot be written. */
export async function openRunLogs(
  config: RunConfig,
  deps: {
    readonly env: Readonly<Record<string, string | undefined>>;
    /** More that nobody may read. */
    readonly secrets: readonly string[];
    readonly clock: Clock;
    readonly console: Console;
  },
): Promise<RunLogs> {
  const { clock } = deps;
  const console = batchLines(deps.console, (block, ended: EndedRequest) => putAccess(block, ended, clock));
  const live = new LiveLog({ random: systemRandom });
  let level = config.logLevel;
  const format = { format: config.logFormat, wallMs: clock.wallMs, write: console.write };
  const onLost = (lines: number, error: string): void =>
    createLogger({ level: () => level, ...format, tap: live }).warn("Lines of the log file were lost", {
      lines,
      error,
    });
  const file = config.logFile === undefined ? undefined : await LogFile.open(config.logFile, clock, onLost);
  const scrub = createScrubber([...deps.secrets, ...secretsOf(config, deps.env)]);
  const open = (least: () => LogLevel) => {
    const base = createLogger({
      ...{ level: least, ...format, tap: live, also: file?.take },
    });
    const { log, flush } = foldingLogger(base, clock);
    return { base, log: redactingLogger(log, scrub), flush };
  };
  const main = open(() => level);
  const transport = open(() => config.transportLogLevel);
  const flush = (): void => {
    main.flush();
    transport.flush();
  };
  deps.console.onRegained((lines) => main.base.warn(LOST_CONSOLE_LINES, { lines }));
  const consoleOnly = config.logFormat === "default" && file === undefined;
  /** Nothing is folded, and no secret has to be taken out. */
  const writeRequest = (ended: EndedRequest): void => {
    if (!main.base.enabled("info")) return;
    if (consoleOnly && !live.wants("info")) console.add(ended);
    else main.base.info(ACCESS_MESSAGE, accessFields(ended));
  };
  return {
    log: main.log,
    transportLog: transport.log,
    requestLog: config.accessLog ? writeRequest : undefined,
    live,
    setLevel: (next) => {
      level = next;
    },
    lostLines: () => ({ console: deps.console.lines, file: file?.dropped }),
    flush,
    close: async () => {
      flush();
      console.flush();
      await file?.close();
      console.flush();
    },
  };
}

/** Everything this run knows that nobody may read in a log. */
function secretsOf(
  config: RunConfig,
  env: Readonly<Record<string, string | undefined>>,
): readonly (string | undefined)[] {
  const secret = Buffer.from(config.tunnelSecret);
  const proxies = PROXY_VARIABLES.map((name) => passwordOf(env[name]));
  const { edge } = config;
  const edges = edge.kind === "static" ? edge.edges : [];
  return [
    ...[secret.toString("base64"), secret.toString("base64url"), secret.toString("hex")],
    ...[config.metricsAuth, afterColon(config.metricsAuth), env["TUNNEL_TOKEN"], ...proxies],
    ...(config.tracing?.headers ?? []).flatMap(([, value]) => [value, afterSpace(value)]),
    ...edges.map((address) => config.proxyFor(address)?.credentials?.password),
  ];
}

function afterColon(text: string | undefined): string | undefined {
  return text?.slice(text.indexOf(":") + 1);
}

/** What follows `Bearer` or `Basic`. */
function afterSpace(text: string): string | undefined {
  return text.slice(text.lastIndexOf(" ") + 1);
}

function passwordOf(url: string | undefined): string | undefined {
  try {
    const parsed = parseProxyUrl(url ?? "");
    return parsed.ok ? parsed.value.credentials?.password : undefined;
  } catch {
    // Who uses it is told what is wrong with it.
    return undefined;
  }
}
