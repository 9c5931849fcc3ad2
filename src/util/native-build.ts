/** What builds the native kernels, for messages: npm rebuild by a name does not find a clone in a folder of another name. */
export const nativeBuild = 'npm rebuild elapid, in a clone npm run build:native';
/** The same, for every instruction set. */
export const nativeBuildOfAll = 'ELAPID_NATIVE=all npm rebuild elapid, in a clone npm run build:native -- --all';
