import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readlinkSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Downloads } from "../../../src/bundle/downloads.ts";
import { encodeMinisignPublicKey } from "../../../src/wire/minisign.ts";
import { makeMinisignKey } from "../../support/minisign-key.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const temp = makeTempDir();
afterAll(() => temp[Symbol.dispose]());
const folder = join(temp.path, "releases");
mkdirSync(folder);
const CONTENT = "0123456789".repeat(20_000);
const MODIFIED_S = 1_767_225_600;
const NAME = "culvert-1.2.3-linux-x64";
writeFileSync(join(folder, NAME), CONTENT);
utimesSync(join(folder, NAME), MODIFIED_S, MODIFIED_S);
writeFileSync(join(folder, "SHA256SUMS"), "sums\n");
writeFileSync(join(folder, "manifest.json"), "{}\n");
writeFileSync(join(folder, "empty"), "");
writeFileSync(join(folder, ".hidden"), "hidden\n");
writeFileSync(join(temp.path, "secret"), "secret\n");
mkdirSync(join(folder, "folder"));
const { key } = makeMinisignKey();
const downloads = new Downloads({ folder, keys: [key] });

const get = (name: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> =>
  downloads.file(name, new Request(`http://edge.example.com/dl/${encodeURIComponent(name)}`, { method, headers }));

describe("a file", () => {
  test("comes whole, with its size, its type and a tag", async () => {
    const response = await get(NAME);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-length")).toBe("200000");
    expect(response.headers.get("content-type")).toBe("application/octet-stream");
    expect(response.headers.get("last-modified")).toBe("Thu, 01 Jan 2026 00:00:00 GMT");
    expect(response.headers.get("etag")).toMatch(/^"[a-z0-9-]+"$/);
    expect(response.headers.get("accept-ranges")).toBe("bytes");
    expect(await response.text()).toBe(CONTENT);
  });

  test.each([
    { name: "SHA256SUMS", type: "text/plain; charset=utf-8" },
    { name: "manifest.json", type: "application/json" },
  ])("$name is $type, and a cache asks each time", async ({ name, type }) => {
    const { headers } = await get(name);
    expect([headers.get("content-type"), headers.get("cache-control")]).toEqual([type, "no-cache"]);
  });

  test("that is empty is no error", async () => {
    const response = await get("empty");
    expect([response.status, await response.text()]).toEqual([200, ""]);
  });

  test("HEAD says the same without a body", async () => {
    const response = await get(NAME, {}, "HEAD");
    expect([response.status, response.headers.get("content-length")]).toEqual([200, "200000"]);
    expect(await response.text()).toBe("");
  });

  test("POST is refused", async () => {
    const response = await get(NAME, {}, "POST");
    expect([response.status, response.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });
});

describe("a range", () => {
  test.each([
    { range: "bytes=199990-", want: "0123456789", said: "bytes 199990-199999/200000" },
    { range: "bytes=0-3", want: "0123", said: "bytes 0-3/200000" },
    { range: "bytes=-4", want: "6789", said: "bytes 199996-199999/200000" },
    { range: "bytes=199998-999999", want: "89", said: "bytes 199998-199999/200000" },
  ])("$range gives $said", async ({ range, want, said }) => {
    const response = await get(NAME, { range });
    expect([response.status, response.headers.get("content-range")]).toEqual([206, said]);
    expect(response.headers.get("content-length")).toBe(`${want.length}`);
    expect(await response.text()).toBe(want);
  });

  test.each(["bytes=200000-", "bytes=-0"])("%s is past the end", async (range) => {
    const response = await get(NAME, { range });
    expect([response.status, response.headers.get("content-range")]).toEqual([416, "bytes */200000"]);
  });

  test.each(["bytes=0-1,5-6", "bytes=5-1", "bytes=-", "lines=0-1", "bytes=0x1-"])("%s is ignored", async (range) => {
    expect((await get(NAME, { range })).status).toBe(200);
  });

  test("goes only with the file that it was begun of", async () => {
    const etag = (await get(NAME, {}, "HEAD")).headers.get("etag") ?? "";
    const range = "bytes=0-3";
    expect((await get(NAME, { range, "if-range": etag })).status).toBe(206);
    expect((await get(NAME, { range, "if-range": `"other"` })).status).toBe(200);
    expect((await get(NAME, { range, "if-range": "Thu, 01 Jan 2026 00:00:00 GMT" })).status).toBe(206);
    expect((await get(NAME, { range, "if-range": "Thu, 01 Jan 2026 00:00:01 GMT" })).status).toBe(200);
  });
});

test.each([
  { headers: { "if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT" }, status: 304 },
  { headers: { "if-modified-since": "Wed, 31 Dec 2025 23:59:59 GMT" }, status: 200 },
  { headers: { "if-modified-since": "yesterday" }, status: 200 },
  { headers: { "if-none-match": "*" }, status: 304 },
  { headers: { "if-none-match": `"other"`, "if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT" }, status: 200 },
] as { headers: Record<string, string>; status: number }[])("$headers gives $status", async ({ headers, status }) => {
  expect((await get(NAME, headers)).status).toBe(status);
});

test("a known tag is answered with 304, strong or weak, alone or in a list", async () => {
  const etag = (await get(NAME, {}, "HEAD")).headers.get("etag") ?? "";
  for (const tags of [etag, `W/${etag}`, `"a", ${etag}`]) {
    expect({ tags, status: (await get(NAME, { "if-none-match": tags })).status }).toEqual({ tags, status: 304 });
  }
});

test.each([
  "culvert-9.9.9-linux-x64",
  "folder",
  "../secret",
  "..",
  ".hidden",
  "",
  "a/b",
  "a\0b",
  "a\nb",
  "x".repeat(200),
])("%j is not there, and the answer says what to do", async (name) => {
  const response = await get(name);
  const text = await response.text();
  expect(response.status).toBe(404);
  expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  expect(text).toContain("puts releases into its folder of releases");
  expect(text).not.toContain(temp.path);
});

test("neither a pipe nor a link that leads nowhere is waited for", async () => {
  if (process.platform === "win32") return;
  expect(spawnSync("mkfifo", [join(folder, "pipe")]).status).toBe(0);
  symlinkSync(join(folder, "gone"), join(folder, "link"));
  for (const name of ["pipe", "link"]) expect((await get(name)).status).toBe(404);
});

test("where there is no folder of releases, everything is just not there", async () => {
  const none = new Downloads({ folder: join(temp.path, "none"), keys: [] });
  expect((await none.file(NAME, new Request("http://edge.example.com/"))).status).toBe(404);
});

test("a file that is replaced while it is sent arrives as it was", async () => {
  const name = "culvert-replaced";
  writeFileSync(join(folder, name), "a".repeat(300_000));
  const reader = (await get(name)).body?.getReader();
  let got = (await reader?.read())?.value?.length ?? 0;
  spawnSync("sh", ["-c", `printf b >"$0.new" && mv "$0.new" "$0"`, join(folder, name)]);
  expect(statSync(join(folder, name)).size).toBe(1);
  for (;;) {
    const part = await reader?.read();
    if (part?.done !== false) break;
    expect(part.value.every((byte: number) => byte === 97)).toBe(true);
    got += part.value.length;
  }
  expect(got).toBe(300_000);
});

test("a file that is replaced before it is sent does not go out under the tag of the one before", async () => {
  const path = join(folder, "culvert-early");
  writeFileSync(path, "a".repeat(10));
  const response = await get("culvert-early");
  writeFileSync(path, "b".repeat(20));
  await expect(response.text()).rejects.toThrow("was replaced");
});

test.skipIf(process.platform !== "linux")("whoever goes away half-way leaves no file open", async () => {
  const name = "culvert-abandoned";
  const path = join(folder, name);
  writeFileSync(path, CONTENT);
  const open = (): number =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === path;
      } catch {
        return false;
      }
    }).length;
  const reader = (await get(name)).body?.getReader();
  await reader?.read();
  expect(open()).toBe(1);
  await reader?.cancel();
  const gone = new AbortController();
  const request = (): Request => new Request("http://edge.example.com/", { signal: gone.signal });
  // Never begun, begun, and begun too late.
  await downloads.file(name, request());
  const begun = (await downloads.file(name, request())).body?.getReader();
  await begun?.read();
  gone.abort();
  await expect(begun?.read()).rejects.toThrow("has gone");
  const late = await downloads.file(name, request());
  await expect(late.text()).rejects.toThrow("has gone");
  await get(name, {}, "HEAD");
  await get(name, { "if-none-match": "*" });
  await get(name, { range: "bytes=999999-" });
  await pollUntil(() => open() === 0, { what: "every file is closed" });
});

describe("the installer", () => {
  const script = (url: string, headers: Record<string, string> = {}): Response =>
    downloads.script(new Request(url, { headers }));

  test("takes releases from where it came from, and trusts the edge's keys", async () => {
    const text = await script("http://edge.example.com:8443/install.sh", { "x-forwarded-proto": "https" }).text();
    expect(text).toStartWith("#!/bin/sh\n");
    expect(text).toContain("\nDEFAULT_BASE_URL='https://edge.example.com:8443'\n");
    expect(text).toContain(`\nDEFAULT_KEYS='${encodeMinisignPublicKey(key)}'\n`);
  });

  test("is told of plain HTTP and of IPv6 addresses too", async () => {
    const text = await script("http://[::1]:8080/install.sh").text();
    expect(text).toContain("\nDEFAULT_BASE_URL='http://[::1]:8080'\n");
  });

  test("has the length it says", async () => {
    const response = script("http://edge.example.com/install.sh");
    const said = Number(response.headers.get("content-length"));
    expect((await response.arrayBuffer()).byteLength).toBe(said);
  });

  test.each(["http://a'b/", "http://a$(id)/", "http://a`id`/"])("does not take %s for an address", (url) => {
    expect(() => script(url)).toThrow();
  });
});
