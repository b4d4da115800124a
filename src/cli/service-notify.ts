import { systemClock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { openNotifySocket } from "../net/notify-socket.ts";
import { createNotifier, type Notifier } from "../service/notify.ts";

/** Tells the service manager that started us, if one did, how we are. */
export async function startNotifier(env: Readonly<Record<string, string | undefined>>, log: Logger): Promise<Notifier> {
  const monotonicUs = (): bigint => process.hrtime.bigint() / 1_000n;
  return await createNotifier(env, { clock: systemClock, log, monotonicUs }, openNotifySocket);
}
