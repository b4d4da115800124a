import { expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createLogger } from "../../../../src/core/log.ts";
import { CustomPages, MAX_PAGE_BYTES } from "../../../../src/edge/listener/custom-pages.ts";
import { BAD_GATEWAY, movedTo, statusError, UNKNOWN_HOSTNAME } from "../../../../src/edge/listener/error-page.ts";
import { makeTempDir } from "../../../support/temp-dir.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

function setUp(dir: string) {
  const lines: string[] = [];
  const clock = new VirtualClock();
  const log = createLogger({
    level: "info",
    format: "default",
    wallMs: () => 0,
    write: (line) => void lines.push(line),
  });
  return { clock, lines, open: () => new CustomPages(dir, { clock, log }) };
}

test("the page of the status goes before that of its class, and that before the one for all", () => {
  using dir = makeTempDir();
  for (const name of ["404", "5xx", "error"]) writeFileSync(join(dir.path, `${name}.html`), `${name} {{status}}`);
  writeFileSync(join(dir.path, "600.html"), "never");
  const pages = setUp(dir.path).open();
  expect(pages.html(UNKNOWN_HOSTNAME, "r")).toBe("404 404");
  expect(pages.html(BAD_GATEWAY, "r")).toBe("5xx 502");
  expect(pages.html(statusError(431), "r")).toBe("error 431");
  expect(pages.html(movedTo("https://x/"), "r")).toBeUndefined();
  pages.close();
});

test("placeholders are filled in as text, once", () => {
  using dir = makeTempDir();
  writeFileSync(join(dir.path, "error.html"), "{{title}}|{{ advice }}|{{code}}|{{ray}}|{{other}}|{{status}");
  const pages = setUp(dir.path).open();
  const error = { status: 500, code: 7, title: `<b>&"'`, advice: "{{ray}} $& $1" };
  expect(pages.html(error, "r<")).toBe("&#60;b&#62;&#38;&#34;&#39;|{{ray}} $&#38; $1|7|r&#60;|{{other}}|{{status}");
  pages.close();
});

test("a changed page is taken, one that is too long is not and the old one stays, a removed one is gone", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "404.html");
  writeFileSync(path, "one");
  const { clock, lines, open } = setUp(dir.path);
  const pages = open();
  writeFileSync(path, "second");
  await clock.advance(5_000);
  expect(pages.html(UNKNOWN_HOSTNAME, "r")).toBe("second");
  writeFileSync(path, "x".repeat(MAX_PAGE_BYTES + 1));
  await clock.advance(5_000);
  expect(pages.html(UNKNOWN_HOSTNAME, "r")).toBe("second");
  expect(lines.join("\n")).toContain("Cannot use the error page");
  rmSync(path);
  await clock.advance(5_000);
  expect(pages.html(UNKNOWN_HOSTNAME, "r")).toBeUndefined();
  pages.close();
});

test("a folder that is not there is refused", () => {
  expect(() => setUp("/nowhere/at/all").open()).toThrow("Cannot read the error pages");
});
