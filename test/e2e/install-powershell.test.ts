import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { compareVersions, parseVersion, type Version } from "../../src/update/version.ts";
import { encodeMinisignPublicKey, encodeMinisignSignature, parseMinisignSignature } from "../../src/wire/minisign.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const SCRIPT = readFileSync(join(ROOT, "install.ps1"), "utf8");
/** Order of the group of Ed25519 (RFC 8032, section 5.1). */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
/** What the C# of the script is called by: lines of words, and a line for each. */
const DRIVER = `
public static class Driver
{
    public static void Main()
    {
        string line;
        while ((line = System.Console.ReadLine()) != null)
        {
            string[] words = line.Split(' ');
            try { System.Console.WriteLine(Run(words)); }
            catch (System.Exception error) { System.Console.WriteLine("refused: " + error.Message); }
        }
    }

    static string Run(string[] words)
    {
        if (words[0] == "compare") return CulvertRelease.Compare(words[1], words[2]).ToString();
        byte[] content = System.Convert.FromBase64String(words[1]);
        if (words[0] == "blake2b") return System.BitConverter.ToString(CulvertRelease.Blake2b(content)).Replace("-", "").ToLower();
        string signature = System.Text.Encoding.UTF8.GetString(System.Convert.FromBase64String(words[2]));
        return CulvertRelease.Verify(content, signature, words[3].Split(','));
    }
}
`;

const has = (command: string): boolean => spawnSync("which", [command]).status === 0;
const MISSING = has("mcs") && has("mono") ? undefined : "needs mcs and mono: apt-get install mono-mcs";
const base64 = (data: Uint8Array | string): string => Buffer.from(data).toString("base64");

(MISSING === undefined ? describe : describe.skip)(
  `install.ps1: its verifier${MISSING === undefined ? "" : ` (${MISSING})`}`,
  () => {
    const dir = makeTempDir();
    const program = join(dir.path, "driver.exe");
    const { key } = makeMinisignKey();
    const content = Buffer.from("0123456789abcdef".repeat(20));
    const comment = "culvert 1.2.3 sums";
    const signature = signMinisign(key, minisignDigest(content), { trusted: comment, untrusted: "of a test" });

    beforeAll(() => {
      const source = /\$Source = @'\n([\s\S]*?)\n'@\n/.exec(SCRIPT)?.[1] ?? "";
      writeFileSync(join(dir.path, "driver.cs"), source + DRIVER);
      // As Windows' own compiler: no newer language.
      const args = ["-langversion:5", "-warnaserror", "-r:System.Numerics.dll", `-out:${program}`];
      const { status, stderr, stdout } = spawnSync("mcs", [...args, join(dir.path, "driver.cs")], { encoding: "utf8" });
      if (status !== 0) throw new Error(`mcs: ${stdout}${stderr}`);
    }, 60_000);
    afterAll(() => dir[Symbol.dispose]());

    function ask(...lines: readonly string[]): readonly string[] {
      const input = lines.map((line) => `${line}\n`).join("");
      const { status, stdout, stderr } = spawnSync("mono", [program], { input, encoding: "utf8" });
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return stdout.trimEnd().split("\n");
    }
    function verify(given: { content?: Uint8Array; signature?: string; keys?: readonly string[] } = {}): string {
      const keys = given.keys ?? [encodeMinisignPublicKey(key)];
      return `verify ${base64(given.content ?? content)} ${base64(given.signature ?? signature)} ${keys.join(",")}`;
    }

    test("BLAKE2b-512 of every length around a block is that of node:crypto", () => {
      const inputs = [0, 1, 63, 64, 127, 128, 129, 255, 256, 257, 5_000].map((bytes) => randomBytes(bytes));
      expect(ask(...inputs.map((input) => `blake2b ${base64(input)}`))).toEqual(
        inputs.map((input) => createHash("blake2b512").update(input).digest("hex")),
      );
    });

    test("a good signature gives its comment, whichever of the keys made it, with either line end", () => {
      const other = encodeMinisignPublicKey(makeMinisignKey().key);
      expect(
        ask(
          verify(),
          verify({ keys: [other, encodeMinisignPublicKey(key)] }),
          verify({ signature: signature.replaceAll("\n", "\r\n") }),
        ),
      ).toEqual([comment, comment, comment]);
    });

    test("twenty keys and contents, so that both signs of both coordinates come up", () => {
      const lines = Array.from({ length: 20 }, (_, index) => {
        const { key: fresh } = makeMinisignKey();
        const bytes = randomBytes(index * 37);
        const signed = signMinisign(fresh, minisignDigest(bytes), { trusted: `n ${index}`, untrusted: "x" });
        return verify({ content: bytes, signature: signed, keys: [encodeMinisignPublicKey(fresh)] });
      });
      expect(ask(...lines)).toEqual(lines.map((_, index) => `n ${index}`));
    });

    test.skipIf(!has("minisign"))("a file that minisign itself has signed", () => {
      const { key: own, publicFile, secretFile } = makeMinisignKey();
      const at = (name: string): string => join(dir.path, name);
      for (const [name, text] of [
        ["k", secretFile],
        ["k.pub", publicFile],
        ["file", "sums\n"],
      ] as const) {
        writeFileSync(at(name), text);
      }
      const args = ["-S", "-s", at("k"), "-m", at("file"), "-t", comment];
      expect(spawnSync("minisign", args, { input: "" }).status).toBe(0);
      const signed = readFileSync(at("file.minisig"), "utf8");
      const keys = [encodeMinisignPublicKey(own)];
      expect(ask(verify({ content: Buffer.from("sums\n"), signature: signed, keys }))).toEqual([comment]);
    });

    test("every changed bit is refused: of the content, the signature, the comment and the key", () => {
      const parsed = parseMinisignSignature(signature);
      if (!parsed.ok) throw new Error("the signature is none");
      const flip = (bytes: Uint8Array, bit: number): Uint8Array => {
        const copy = Uint8Array.from(bytes);
        copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        return copy;
      };
      const bits = [0, 7, 100, 255, 256, 300, 505, 511];
      const signed = (change: Partial<typeof parsed.value>): string =>
        encodeMinisignSignature({ ...parsed.value, ...change }, "x");
      const refused = ask(
        ...bits.map((bit) => verify({ content: flip(content, bit) })),
        ...bits.map((bit) => verify({ signature: signed({ signature: flip(parsed.value.signature, bit) }) })),
        ...bits.map((bit) =>
          verify({ signature: signed({ commentSignature: flip(parsed.value.commentSignature, bit) }) }),
        ),
        verify({ signature: signature.replace("1.2.3", "1.2.4") }),
        ...[0, 100, 254, 255].map((bit) =>
          verify({ keys: [encodeMinisignPublicKey({ id: key.id, key: flip(key.key, bit) })] }),
        ),
      );
      for (const line of refused) expect(line).toStartWith("refused: it does not fit its signature");
    });

    test("a signature with the order added is refused", () => {
      const parsed = parseMinisignSignature(signature);
      if (!parsed.ok) throw new Error("the signature is none");
      const bytes = Buffer.from(parsed.value.signature);
      const half = BigInt(`0x${Buffer.from(bytes.subarray(32).toReversed()).toString("hex")}`) + ORDER;
      Buffer.from(half.toString(16).padStart(64, "0"), "hex").reverse().copy(bytes, 32);
      const again = encodeMinisignSignature({ ...parsed.value, signature: bytes }, "x");
      expect(ask(verify({ signature: again }))[0]).toStartWith("refused: it does not fit");
    });

    test.each([
      ["an unknown key", { keys: [encodeMinisignPublicKey(makeMinisignKey().key)] }, "a key that is not trusted"],
      ["no key", { keys: ["RWQ="] }, "is no minisign public key"],
      ["one line", { signature: "untrusted comment: x\n" }, "it is no minisign signature"],
      ["an old signature", { signature: signature.replace("\nRU", "\nRW") }, "it is no minisign signature"],
    ] as const)("%s is refused", (_, given, why) => {
      expect(ask(verify(given))[0]).toMatch(new RegExp(`^refused: .*${why}`));
    });

    test("versions have the order that updates give them", () => {
      const versions = [
        "0.1.0",
        "0.9.0",
        "0.10.0",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-rc.2",
        "1.0.0-rc.11",
        "1.0.0",
      ];
      const pairs = versions.flatMap((a) => versions.map((b) => [a, b] as const));
      const parsed = (text: string): Version => {
        const version = parseVersion(text);
        if (version === undefined) throw new Error(`${text} is no version`);
        return version;
      };
      expect(ask(...pairs.map(([a, b]) => `compare ${a} ${b}`)).map(Number)).toEqual(
        pairs.map(([a, b]) => Math.sign(compareVersions(parsed(a), parsed(b)))),
      );
    });
  },
);

describe("install.ps1: its text", () => {
  const options = (text: string, pattern: RegExp): readonly string[] =>
    [...text.matchAll(pattern)].map(([, name = ""]) => name.replaceAll("-", "").toLowerCase()).toSorted();

  test("has the options of install.sh, and says the same of each that it takes", () => {
    const unix = readFileSync(join(ROOT, "install.sh"), "utf8");
    const usage = /\$Usage = @'\n([\s\S]*?)\n'@\n/.exec(SCRIPT)?.[1] ?? "";
    const shown = options(usage, /^ {2}-([A-Za-z0-9]+) /gm);
    // Windows has one store of authorities for all: an edge's own is put there, which `irm` needs as well.
    const unixAlone = ["cacert"];
    const wanted = options(unix, /^ {2}--([a-z0-9-]+)(?: |$)/gm).filter((name) => !unixAlone.includes(name));
    expect(shown).toEqual(wanted);
    const taken = options(SCRIPT.slice(0, SCRIPT.indexOf("\nfunction ")), /\]\$(\w+)/g);
    expect(taken.filter((name) => name !== "token")).toEqual(shown.slice());
  });

  test("is ASCII, which Windows PowerShell reads without a mark in front, and needs no newer language", () => {
    expect(SCRIPT.split("\n").filter((line) => !/^[\x20-\x7e]*$/.test(line))).toEqual([]);
    const code = SCRIPT.replace(/@'\n[\s\S]*?\n'@/g, "").replace(/'[^'\n]*'/g, "");
    const newer = /\?\?|\?\.|\?\[|&&|\|\||-Parallel|\bclean \{/;
    expect(code.split("\n").filter((line) => !line.trimStart().startsWith("#") && newer.test(line))).toEqual([]);
  });

  test("does nothing when it is cut off: the last line calls what is before", () => {
    const code = SCRIPT.replace(/@'\n[\s\S]*?\n'@/g, "''");
    const outside = code.split("\n").filter((line) => /^[^\s#)}]/.test(line));
    expect(outside).toEqual(["[CmdletBinding()]", "param(", "function Install-Culvert {", "Install-Culvert"]);
  });

  test.skipIf(!has("pwsh"))("PowerShell itself reads it without an error", () => {
    const path = join(ROOT, "install.ps1");
    const command = `$e = $null; [void][Management.Automation.Language.Parser]::ParseFile('${path}', [ref]$null, [ref]$e); $e.Count`;
    const { stdout } = spawnSync("pwsh", ["-NoProfile", "-Command", command], { encoding: "utf8" });
    expect(stdout.trim()).toBe("0");
  });
});
