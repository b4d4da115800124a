/** Words of quick tunnels' names: short, easy to say, and no harm in any pair of them. */
const FIRST = `amber ample arctic autumn azure balmy bold brave breezy bright brisk bronze calm candid cedar civil clear
clever coastal copper coral cosmic cozy crimson crisp curious dapper daring dawn deep dewy eager early earnest easy
emerald even exact fair famous fancy fine fleet floral fond fresh frosty gentle giant gilded glad golden grand green
hardy hazel honest humble indigo ivory jade jolly keen kind lively loyal lucid lucky lunar maple mellow merry mighty
mild misty modest mossy neat nimble noble novel oaken olive opal open pearl placid plain polar proud pure quick quiet
rapid rare ready regal royal ruby rustic sage sandy scarlet serene sharp shiny silent silver simple sleek smooth snowy
solar solid spry stable steady still stoic sunny super sweet swift tidal tidy tranquil true vast velvet vivid warm wild
wise witty young zesty`.split(/\s+/);

const SECOND =
  `acorn alder anchor aspen atlas badger bamboo basin bay beacon beaver birch bison bloom bluff boulder bridge
brook cabin canoe canyon cape cliff clover comet compass cove crane creek crest delta dune eagle elm ember fern field
finch fjord flint forest fox garden geyser glacier glade grove gull harbor hare harvest hawk heath heron hill hollow
inlet iris island ivy jasper juniper kestrel kite lagoon lake lantern larch lark laurel leaf lily linden lotus lynx
magpie maple marble marsh meadow mesa moor moss nest oak oasis ocean orchard orchid osprey otter owl oyster path peak
pebble pelican pine plain plover pond poplar prairie quail quarry quartz rain raven reef ridge river robin rock rose
rowan sail salmon seal shore sky slope sparrow spring spruce star stone stream summit swan thicket thistle thrush tide
timber trail trout tulip valley violet walnut wave willow wind wren yarrow`.split(/\s+/);

/** Letters and digits that cannot be taken for one another. */
const LETTERS = "23456789abcdefghjkmnpqrstuvwxyz";
const ENDING_CHARS = 6;

/**
 * A random name such as `calm-otter-7k2m9x`: hard to guess (about 45 bits), and never the id of a tunnel. `random` gives
 * that many bytes of chance.
 */
export function quickName(random: (bytes: number) => Uint8Array): string {
  const bytes = random(4 + ENDING_CHARS);
  const pick = (words: readonly string[], at: number): string =>
    words[(((bytes[at] as number) << 8) | (bytes[at + 1] as number)) % words.length] as string;
  const ending = [...bytes.subarray(4)].map((byte) => LETTERS[byte % LETTERS.length]).join("");
  return `${pick(FIRST, 0)}-${pick(SECOND, 2)}-${ending}`;
}
