/** A pipe under a road. */
export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#14532d"/><path d="M5 11h22" stroke="#fff" stroke-width="3" stroke-linecap="round"/><circle cx="16" cy="20" r="6" fill="none" stroke="#86efac" stroke-width="3"/></svg>
`;
