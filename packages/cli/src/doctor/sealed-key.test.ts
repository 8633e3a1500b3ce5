import { expect, test } from "bun:test";
import { sealOf } from "./sealed-key.ts";

/** What systemd-creds 257 made of the word "secret", with --with-key=host and --with-key=null. */
const byHost =
  "Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAADGMZqL2Ufsdrzil0MAAAAA1ihkkku23o64jpNPB7RHFu6GjfJ/bhhXlCMBwwTida6cedTOuibILbNiL5rLDeCB7OrfhTBXkw==";
const byNothing =
  "BYRp2vb1QySABUnaD46i+yAAAAABAAAADAAAABAAAADT9KSWKHXwJhJyiloAAAAALJ+kM2LEBmKn6e4LdZPasR6UpzUnqjgRoLg1CkfrNWRuV9WQQ1wfO/nFyeghGO4z9I5Gs88Cnw==";

test("the kind of key is told from the blob, also when it is broken over lines", () => {
  expect(sealOf(byHost)).toBe("host");
  expect(sealOf(byHost.replace(/(.{60})/g, "$1\n"))).toBe("host");
  expect(sealOf(byNothing)).toBe("none");
});

test("what is no sealed credential is not taken for one", () => {
  for (const text of ["", "AGE-SECRET-KEY-1ABC", "c2VjcmV0", "Whxqht+dQJax"])
    expect(sealOf(text)).toBe("unknown");
});
