import { TunnelError } from "../core/errors.ts";
import { openWindows, type WindowsHandle, wide } from "./windows-api.ts";

const OWN_PROCESS = 0x10;
const STATES = { stopped: 1, starting: 2, stopping: 3, running: 4 } as const;
const CONTROLS = { stop: 1, shutdown: 5, paramChange: 6, preshutdown: 15 } as const;
const ACCEPTED = 1 | 8 | 0x100;
/** ERROR_SERVICE_SPECIFIC_ERROR: the code is the service's own. */
const OWN_ERROR = 1066;
const STILL_ACTIVE = 259;
const EVENT_TYPES = { error: 1, info: 4 } as const;
/** Ids that the message file of Windows' own `eventcreate` has a text for. */
const EVENT_ID = 1;
const START_HINT_MS = 20_000;
/** The next word while it stops comes well within what the last one promised. */
const STOP_HINT_MS = 15_000;
const STOP_WORD_EVERY_MS = 3_000;
const DISPATCHER_CHECK_MS = 50;

/** This process as a Windows service. */
export interface WindowsService {
  running(): void;
  /** Says so again and again until it has stopped: a process that hangs goes silent, and is then ended. */
  stopping(): void;
  /** The last word; 0 = all is well. The process may be ended any time after. */
  stopped(exitCode: number): void;
  /** A line in the event log of applications. */
  report(kind: "error" | "info", text: string): void;
}

export interface WindowsServiceEvents {
  /** The service is to stop, or the machine goes down. */
  onStop(): void;
  /** The configuration is to be read again. */
  onReload(): void;
}

/** What the system holds addresses of, until the process ends. */
const kept: unknown[] = [];

/**
 * Reports to the Service Control Manager that started this process. The dispatcher has the shape of a thread's routine
 * and gets a thread of its own; what it calls back arrives on this one. Rejects with `service.failed` when nobody
 * started this process as a service.
 */
export async function enterWindowsService(name: string, events: WindowsServiceEvents): Promise<WindowsService> {
  const { advapi, ffi, kernel } = await openWindows();
  const nameText = wide(name);
  const status = new Uint32Array(7);
  let handle: WindowsHandle = null;
  let checkpoint = 0;
  let stopWords: ReturnType<typeof setInterval> | undefined;
  const set = (state: keyof typeof STATES, options: { hintMs?: number; exitCode?: number } = {}): void => {
    const { hintMs = 0, exitCode = 0 } = options;
    checkpoint = hintMs > 0 ? checkpoint + 1 : 0;
    status.set([
      ...[OWN_PROCESS, STATES[state], state === "running" ? ACCEPTED : 0],
      ...[exitCode === 0 ? 0 : OWN_ERROR, exitCode, checkpoint, hintMs],
    ]);
    advapi.SetServiceStatus(handle, status);
  };
  const service: WindowsService = {
    running: () => set("running"),
    stopping() {
      const say = (): void => set("stopping", { hintMs: STOP_HINT_MS });
      say();
      stopWords ??= setInterval(say, STOP_WORD_EVERY_MS);
    },
    stopped(exitCode) {
      clearInterval(stopWords);
      set("stopped", { exitCode });
    },
    report(kind, text) {
      const source = advapi.RegisterEventSourceW(null, nameText);
      const line = wide(text);
      const lines = new BigUint64Array([BigInt(ffi.ptr(line))]);
      advapi.ReportEventW(source, EVENT_TYPES[kind], 0, EVENT_ID, null, 1, 0, lines, null);
      advapi.DeregisterEventSource(source);
    },
  };
  return await new Promise((resolve, reject) => {
    // A thread gets the answer of such a callback only when it is declared with this type: 0, all is well.
    const handler = new ffi.JSCallback(
      (control: number) => {
        if (control === CONTROLS.paramChange) events.onReload();
        else if (control === CONTROLS.stop || control === CONTROLS.shutdown || control === CONTROLS.preshutdown) {
          events.onStop();
        }
      },
      { args: ["u32", "u32", "ptr", "ptr"], returns: "u32", threadsafe: true },
    );
    const main = new ffi.JSCallback(
      () => {
        clearInterval(watch);
        handle = advapi.RegisterServiceCtrlHandlerExW(nameText, handler.ptr, null);
        set("starting", { hintMs: START_HINT_MS });
        resolve(service);
      },
      { args: ["u32", "ptr"], returns: "void", threadsafe: true },
    );
    const table = new BigUint64Array([BigInt(ffi.ptr(nameText)), BigInt(Number(main.ptr)), 0n, 0n]);
    kept.push(nameText, status, handler, main, table);
    const library = kernel.LoadLibraryW(wide("advapi32.dll"));
    const dispatcher = kernel.GetProcAddress(library, Buffer.from("StartServiceCtrlDispatcherW\0", "latin1"));
    const thread = kernel.CreateThread(null, 0, dispatcher, ffi.ptr(table), 0, null);
    const code = new Uint32Array(1);
    const watch = setInterval(() => {
      kernel.GetExitCodeThread(thread, code);
      if (code[0] === STILL_ACTIVE) return;
      clearInterval(watch);
      reject(new TunnelError("service.failed", "Nobody started this as a service: it is for Windows' service manager"));
    }, DISPATCHER_CHECK_MS);
  });
}
