import { expect, test } from "bun:test";
import { HOST } from "../support/lab.ts";
import { GIBIBYTE, patternDigest } from "../support/lab-pattern.ts";
import { describeConnectors } from "../support/lab-suite.ts";
import { download, upload } from "../support/visitors.ts";

const TIMEOUT_MS = 90_000;
/** What edge and connector may hold at most, each, at any time while gibibytes pass. */
const MAX_RESIDENT_BYTES = 256 * 1024 * 1024;

describeConnectors("1 GiB through the tunnel", (_kind, lab) => {
  const expectBounded = (): void => {
    expect(lab().connector.peakResidentBytes()).toBeLessThan(MAX_RESIDENT_BYTES);
    expect(lab().edge.process.peakResidentBytes()).toBeLessThan(MAX_RESIDENT_BYTES);
  };

  test(
    "down, with the origin's hash",
    async () => {
      const got = await download(lab().port, { host: HOST, target: `/bulk?bytes=${GIBIBYTE}` });
      expect(got).toEqual({ bytes: GIBIBYTE, sha256: patternDigest(GIBIBYTE) });
      expectBounded();
    },
    TIMEOUT_MS,
  );

  test(
    "up, with the visitor's hash",
    async () => {
      const answer = await upload(lab().port, { host: HOST, target: "/upload" }, GIBIBYTE);
      expect(JSON.parse(answer.body.toString())).toEqual({ bytes: GIBIBYTE, sha256: patternDigest(GIBIBYTE) });
      expectBounded();
    },
    TIMEOUT_MS,
  );
});
