import { expect, test } from "bun:test";
import { Admission, askerOf } from "../../../../src/edge/policy/admission.ts";
import { LIMIT_NAMES, LIMIT_RULES, limitsFrom } from "../../../../src/edge/policy/limits.ts";

const ASKER = askerOf("192.0.2.1");
const TUNNEL = "c0ffee00-0000-4000-8000-000000000000";

test("every limit has a default within its bounds", () => {
  for (const name of LIMIT_NAMES) {
    const { default: value, min, max } = LIMIT_RULES[name];
    expect({ name, fits: value >= min && value <= max }).toEqual({ name, fits: true });
  }
});

test.each([
  ["192.0.2.1", "192.0.2.1", true],
  ["192.0.2.1", "192.0.2.2", false],
  ["192.0.2.1", "::ffff:192.0.2.1", true],
  ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true],
  ["2001:db8:1:2::1", "2001:db8:1:3::1", false],
])("%s and %s are one asker: %p", (one, other, same) => {
  expect(askerOf(one).group === askerOf(other).group).toBe(same);
});

test("requests at once are counted until they are released", () => {
  const admission = new Admission(limitsFrom({ "requests-per-ip": 2, "requests-per-tunnel": 1 }));
  const ask = () => admission.admitAsker(ASKER, 0);
  expect([ask().kind, ask().kind]).toEqual(["admitted", "admitted"]);
  expect(ask()).toEqual({ kind: "refused", limit: "requests-per-ip", status: 429, retryAfterS: 1 });
  admission.releaseAsker(ASKER);
  expect(ask().kind).toBe("admitted");
  expect(admission.admitTunnel(TUNNEL, 0).kind).toBe("admitted");
  expect(admission.admitTunnel(TUNNEL, 0)).toMatchObject({ limit: "requests-per-tunnel", status: 503 });
  admission.releaseTunnel(TUNNEL);
  expect(admission.admitTunnel(TUNNEL, 0).kind).toBe("admitted");
});

test("rates say when to come again, in whole seconds", () => {
  const admission = new Admission(
    limitsFrom({ "rate-per-tunnel": 0.2, "burst-per-tunnel": 1, "requests-per-tunnel": 0 }),
  );
  expect(admission.admitTunnel(TUNNEL, 0).kind).toBe("admitted");
  expect(admission.admitTunnel(TUNNEL, 1_500)).toEqual({
    ...{ kind: "refused", limit: "rate-per-tunnel", status: 429, retryAfterS: 4 },
  });
  expect(admission.admitTunnel(TUNNEL, 5_000).kind).toBe("admitted");
});

test.each(["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])(
  "defaults spare %s, where a proxy in front would be; what was set does not",
  (ip) => {
    const local = askerOf(ip);
    const many = (admission: Admission) => {
      for (let i = 0; i < 10_000; i += 1) if (admission.admitAsker(local, 0).kind === "refused") return i;
      return undefined;
    };
    expect(many(new Admission(limitsFrom()))).toBeUndefined();
    expect(many(new Admission(limitsFrom({ "requests-per-ip": 5 })))).toBe(5);
    expect(many(new Admission(limitsFrom({ "rate-per-ip": 5 })))).toBe(10);
  },
);

test("nothing is remembered of requests that are over", () => {
  const admission = new Admission(limitsFrom());
  for (let i = 0; i < 1_000; i += 1) {
    const asker = askerOf(`198.51.${i % 256}.${i >> 8}`);
    admission.admitAsker(asker, i);
    admission.admitTunnel(TUNNEL, i);
    admission.releaseAsker(asker);
    admission.releaseTunnel(TUNNEL);
  }
  admission.sweep(100_000);
  expect(admission.sizes).toEqual({ addresses: 0, tunnels: 0 });
});
