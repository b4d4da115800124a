/** A JSON object whose keys are found as Go finds them: exactly first, then without regard to case. */
export class GoJsonObject {
  readonly #fields: ReadonlyMap<string, unknown>;

  private constructor(fields: ReadonlyMap<string, unknown>) {
    this.#fields = fields;
  }

  /** Undefined when the text is not JSON, or not an object. */
  static parse(text: string): GoJsonObject | undefined {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return undefined;
    }
    return GoJsonObject.from(value);
  }

  static from(value: unknown): GoJsonObject | undefined {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    return new GoJsonObject(new Map(Object.entries(value)));
  }

  /** The value of a key; null counts as absent, as in Go. */
  get(key: string): unknown {
    const exact = this.#fields.get(key);
    if (exact !== undefined) return exact ?? undefined;
    const lower = key.toLowerCase();
    for (const [name, value] of this.#fields) if (name.toLowerCase() === lower) return value ?? undefined;
    return undefined;
  }
}
