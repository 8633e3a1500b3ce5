/** The part of the age library that the launcher loads on first use. */
export { Decrypter, generateX25519Identity } from "age-encryption";
