import { describe, expect, test } from "bun:test";
import { compileIpRules } from "../../../../src/ingress/ip-rules.ts";
import { allowedByRules, bastionPolicy } from "../../../../src/origin/tcp/address-policy.ts";

const rule = (prefix: string, allow: boolean, ports: readonly number[] = []) => ({ prefix, allow, ports });

describe("ipRules", () => {
  test("the first that fits decides; ports count; none = no decision", () => {
    const decide = compileIpRules([
      rule("10.0.0.5/32", false),
      rule("10.0.0.0/8", true, [22, 443]),
      rule("10.1.0.0/16", true),
      rule("2001:db8::/32", true),
    ]);
    expect(decide("10.0.0.5", 22)).toBe("deny");
    expect(decide("10.0.0.6", 22)).toBe("allow");
    expect(decide("10.0.0.6", 80)).toBeUndefined();
    expect(decide("10.1.0.6", 80)).toBe("allow");
    expect(decide("::ffff:10.0.0.5", 22)).toBe("deny");
    expect(decide("2001:db8:1::9", 1)).toBe("allow");
    expect(decide("192.0.2.1", 22)).toBeUndefined();
    expect(decide("no address", 22)).toBeUndefined();
  });

  test("a block of one family says nothing about the other", () => {
    const all6 = compileIpRules([rule("::/0", true)]);
    expect(all6("::1", 1)).toBe("allow");
    expect(all6("10.0.0.1", 1)).toBeUndefined();
    expect(all6("::ffff:10.0.0.1", 1)).toBeUndefined();
    const all4 = compileIpRules([rule("0.0.0.0/0", true)]);
    expect(all4("10.0.0.1", 1)).toBe("allow");
    expect(all4("::ffff:10.0.0.1", 1)).toBe("allow");
    expect(all4("2001:db8::1", 1)).toBeUndefined();
  });

  test("no rules allow nothing to a SOCKS proxy", () => {
    expect(allowedByRules([])("192.0.2.1", 80)).toBe(false);
    expect(allowedByRules([rule("192.0.2.0/24", true)])("192.0.2.1", 80)).toBe(true);
  });
});

describe("a bastion without rules", () => {
  const allows = bastionPolicy([]);
  test.each([
    ...["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "169.254.1.1", "224.0.0.1", "255.255.255.255"],
    ...["100.100.100.200", "168.63.129.16", "192.0.0.192"],
    ...["::1", "::", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "fd20:ce::254"],
    ...["::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1"],
    ...["", "localhost", "127.1"],
  ])("does not lead to %s", (ip) => {
    expect(allows(ip, 22)).toBe(false);
  });
  test.each(["10.0.0.5", "192.168.1.1", "100.100.100.201", "8.8.8.8", "fd00::5", "2001:db8::1", "64:ff9b::808:808"])(
    "leads to %s",
    (ip) => {
      expect(allows(ip, 22)).toBe(true);
    },
  );
});

test("a bastion with rules leads where they allow, to this machine too", () => {
  const allows = bastionPolicy([rule("127.0.0.1/32", true, [22])]);
  expect(allows("127.0.0.1", 22)).toBe(true);
  expect(allows("127.0.0.1", 23)).toBe(false);
  expect(allows("10.0.0.5", 22)).toBe(false);
});
