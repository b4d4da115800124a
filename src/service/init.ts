import type { Family, ServiceSpec } from "./layout.ts";
import type { Step } from "./steps.ts";

export const INIT_KINDS = ["systemd", "openrc", "sysv", "launchd", "freebsd", "windows"] as const;
export type InitKind = (typeof INIT_KINDS)[number];

/** How a program ended. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ServiceState {
  readonly installed: boolean;
  /** Starts with the machine, or for a user's service with the session. */
  readonly enabled: boolean;
  readonly active: "running" | "starting" | "stopped" | "failed";
  readonly pid?: number;
  /** When it started, as the init system writes it. */
  readonly since?: string;
  /** How often it was started again by itself. */
  readonly restarts?: number;
  /** What it says about itself, or why it is not running. */
  readonly detail?: string;
  /** A connector has registered with its edge; undefined = nobody tells. */
  readonly connected?: boolean;
  /** Registered connections; undefined = nobody tells. */
  readonly connections?: number;
}

/** What an init system needs done for a service: steps as values, carried out or shown by others. */
export interface InitSystem {
  readonly kind: InitKind;
  readonly family: Family;
  /** The unit's name, for people. */
  unit(spec: ServiceSpec): string;
  /** The account that must be able to read the configuration; undefined = made by the init system itself, or root. */
  account(spec: ServiceSpec): string | undefined;
  /**
   * The account that the service was installed with, which an installation that names none keeps; undefined = none was
   * named, or there is no service. `read` gives a file's text, undefined where there is none.
   */
  installedUser(spec: ServiceSpec, read: (path: string) => string | undefined): string | undefined;
  /** What comes in front of token and configuration: accounts and folders that they belong to. */
  prepare(spec: ServiceSpec): readonly Step[];
  /** What comes behind them: the service's own files, and what makes it start at boot. */
  install(spec: ServiceSpec): readonly Step[];
  restart(spec: ServiceSpec): readonly Step[];
  /** Takes away what `install` made, also when a part of it is missing; what `others`, units of tunnels, share stays. */
  uninstall(spec: ServiceSpec, options: { readonly others: readonly string[] }): readonly Step[];
  /** A program to ask for the state and how to read its answer, or a question of our own. */
  readonly state:
    | {
        ask(spec: ServiceSpec): readonly string[];
        read(outcome: Outcome, spec: ServiceSpec): ServiceState;
      }
    | { query(spec: ServiceSpec): Promise<ServiceState> };
  /**
   * What the installed service starts: the file that says it and how to read its words, the program first, or a question of
   * our own, which answers with the program alone.
   */
  readonly program:
    | { file(spec: ServiceSpec): string; read(text: string): readonly string[] }
    | { query(spec: ServiceSpec): Promise<string | undefined> };
  /** A program that prints the log. */
  logs(spec: ServiceSpec, options: { readonly lines: number; readonly follow: boolean }): readonly string[];
}
