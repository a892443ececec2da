/**
 * What a stranger wrote, made fit for a terminal: control characters, which move the cursor, change the title or clear the
 * screen, and marks that turn the direction of what follows them, become `\u` and four digits.
 */

const breaking = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
const breakingInText = /[^\P{Cc}\n\t]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** On one line: for names and values. */
export function printable(text: string): string {
  return text.replace(breaking, escaped);
}

/** Line feeds and tabs stay: for text of several lines. */
export function printableText(text: string): string {
  return text.replace(breakingInText, escaped);
}

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
