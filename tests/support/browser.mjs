/* browser.mjs - a real browser for stories: Debian's chromium, remote-controlled by playwright-core.
 *
 * playwright-core comes by `npm ci` in tests/ (scripts/install-deps all); browserMissing() says what is not there.
 */
import fs from 'node:fs';

const CHROMIUM = process.env.LLMB_CHROMIUM ?? '/usr/bin/chromium';

/** Why there is no browser here, or false. */
export async function browserMissing() {
    if (!fs.existsSync(CHROMIUM))
        return `needs ${CHROMIUM} (scripts/install-deps all)`;
    try {
        await import('playwright-core');
        return false;
    } catch {
        return 'needs playwright-core (scripts/install-deps all)';
    }
}

/** Starts it without a window; close() ends it. */
export async function startBrowser() {
    const { chromium } = await import('playwright-core');
    return chromium.launch({ executablePath: CHROMIUM, args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
}
