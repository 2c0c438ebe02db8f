/** Base64 for blobs, in every runtime: the built-in methods where they exist, else `atob`. */

const OTHER = /[^A-Za-z0-9+/]/

/** Standard alphabet, padded. */
export function toBase64(bytes: Uint8Array): string {
  const native: Partial<Pick<Uint8Array, 'toBase64'>> = bytes
  if (native.toBase64 !== undefined) return bytes.toBase64()
  let binary = ''
  for (const byte of bytes) binary += String.fromCharCode(byte)
  return btoa(binary)
}

/** The bytes, or undefined if `text` is not padded base64 in the standard alphabet. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (!isStandard(text)) return undefined
  const native: Partial<Pick<Uint8ArrayConstructor, 'fromBase64'>> = Uint8Array
  if (native.fromBase64 !== undefined) return Uint8Array.fromBase64(text)
  return Uint8Array.from(atob(text), character => character.charCodeAt(0))
}

/** Searched rather than matched as a whole: of some megabytes no stack would hold the groups. */
function isStandard(text: string): boolean {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  return text.length % 4 === 0 && !OTHER.test(text.slice(0, text.length - padding))
}
