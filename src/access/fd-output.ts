import { close, write } from "node:fs";
import { Writable } from "node:stream";
import type { Clock } from "../core/clock.ts";
import { systemCode } from "../core/errors.ts";

/** Bytes held before the writer is asked to wait. */
const BUFFER_BYTES = 64 * 1024;
/** Wait for room in a pipe that somebody made non-blocking, in ms. */
const FULL_MS = 2;

/**
 * Writes to a file descriptor and closes it at the end. `process.stdout` cannot be closed while the process goes on:
 * the runtime keeps a copy of the descriptor, so that its reader would never see the end.
 */
export function createFdOutput(fd: number, clock: Clock): Writable {
  return new Writable({
    highWaterMark: BUFFER_BYTES,
    write(chunk: Uint8Array, _encoding, done) {
      let at = 0;
      const go = (): void => {
        write(fd, chunk, at, chunk.length - at, null, (error, count) => {
          if (systemCode(error) === "EAGAIN") clock.after(FULL_MS, go);
          else if (error !== null) done(error);
          else {
            at += count;
            if (at < chunk.length) go();
            else done();
          }
        });
      };
      go();
    },
    final: (done) => close(fd, done),
  });
}
