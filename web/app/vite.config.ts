import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, loadEnv } from 'vite';

const { FANLIGHT_SERVER: server = 'http://127.0.0.1:8080' } = loadEnv('', '.', 'FANLIGHT_');

export default defineConfig({
  plugins: [svelte()],
  resolve: { conditions: ['fanlight-source', 'module', 'browser', 'development|production'] },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    assetsDir: 'assets',
    // The server's Content-Security-Policy need not allow `data:`.
    assetsInlineLimit: 0,
    target: ['chrome111', 'firefox115', 'safari16.4'],
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      '/api': server,
      '/hls': server,
      '/whip': server,
      '/ws': { target: server, ws: true },
    },
  },
});
