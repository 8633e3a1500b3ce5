/**
 * A value that must not show: its string and JSON forms are a placeholder, so that logs, errors and state files
 * cannot leak it by accident. `reveal()` is the one, greppable, way to the text.
 */
export class Secret {
  readonly #text: string;
  constructor(text: string) {
    this.#text = text;
  }
  reveal(): string {
    return this.#text;
  }
  toString(): string {
    return "[secret]";
  }
  toJSON(): string {
    return "[secret]";
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}
