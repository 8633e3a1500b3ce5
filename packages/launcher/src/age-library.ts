/** The part of the age library that is loaded only when it is needed. */
export { Decrypter, generateX25519Identity } from "age-encryption";
